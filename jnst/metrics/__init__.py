"""Measures of quality: how far an image is from another, from a style, from a content.

Pure functions over any leading axes, one float32 value per image. Networks are evaluated in full float32 precision
on every device, so that a measured number can be compared with a published one.
"""

from jnst.metrics.distances import content_distance, content_distances, style_distance, style_distances
from jnst.metrics.perceptual import LPIPS, LPIPS_NETWORKS, load_lpips, lpips
from jnst.metrics.structural import ssim

__all__ = [
    "LPIPS",
    "LPIPS_NETWORKS",
    "content_distance",
    "content_distances",
    "load_lpips",
    "lpips",
    "ssim",
    "style_distance",
    "style_distances",
]
