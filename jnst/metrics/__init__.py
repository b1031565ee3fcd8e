"""Measures of quality: the distance of an image from another image, from a style, and from a content.

All measures are pure functions with any leading axes, and give one float32 value per image. Networks are evaluated in
full float32 precision on every device, so that values can be compared with published ones. Arguments come in one order:
image, reference, then ``params``, with the network as a keyword.
"""

from jnst.metrics.feature_distances import content_distance, content_distances, style_distance, style_distances
from jnst.metrics.perceptual import LPIPS, LPIPS_NETWORKS, load_lpips, lpips, lpips_map
from jnst.metrics.structural import ms_ssim, ssim
from jnst.metrics.structure_texture import DISTS, dists, load_dists

__all__ = [
    "DISTS",
    "LPIPS",
    "LPIPS_NETWORKS",
    "content_distance",
    "content_distances",
    "dists",
    "load_dists",
    "load_lpips",
    "lpips",
    "lpips_map",
    "ms_ssim",
    "ssim",
    "style_distance",
    "style_distances",
]
