"""The transformation of images to network inputs: channel order, range, mean and standard deviation."""

import dataclasses
import json
import math

import jax.numpy as jnp

from jnst.errors import WeightsError
from jnst.types import Array, Image, of_rank

Triple = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The affine map from an image in [0, 1] to a network's input.

    ``(reordered * scale - mean) / std``

    Attributes:
        channel_order: ``"rgb"`` or ``"bgr"``.
        scale: Multiplies the image before the mean is subtracted: 255.0 for networks trained on 0-255.
        mean: One value per channel, in the network's channel order.
        std: One value per channel, in the network's channel order.
    """

    channel_order: str = "rgb"
    scale: float = 1.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)

    def apply(self, image: Image) -> Array:
        """Transform an image ``(..., h, w, 3)`` in [0, 1] to a network input of the same shape and dtype."""
        ordered = image[..., ::-1] if self.channel_order == "bgr" else image
        mean, std = (of_rank(jnp.asarray(values, image.dtype), image.ndim) for values in (self.mean, self.std))
        return (ordered * self.scale - mean) / std

    @property
    def description(self) -> str:
        """A short description such as "BGR 0-255 minus 103.939 116.779 123.68"."""
        words = [f"{self.channel_order.upper()} 0-{self.scale:g}"]
        for word, values, neutral in (("minus", self.mean, 0.0), ("divided by", self.std, 1.0)):
            if set(values) != {neutral}:
                words += [word, *(f"{value:g}" for value in values)]
        return " ".join(words)

    def to_json(self) -> str:
        """Serialise as JSON, for the metadata of a weights file."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """Parse the output of `to_json`.

        Raises:
            WeightsError: The text is not such a JSON object, or a value is out of range.
        """
        try:
            data = json.loads(text)
            result = cls(str(data["channel_order"]), float(data["scale"]), _triple(data["mean"]), _triple(data["std"]))
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"could not parse preprocessing {text[:80]!r} ({error}): convert the weights again"
            ) from None
        if result.channel_order not in ("rgb", "bgr") or result.scale <= 0 or min(result.std) <= 0:
            raise WeightsError(
                f"preprocessing {text[:120]!r} needs channel_order rgb or bgr, scale > 0 and std > 0: "
                "convert the weights again"
            )
        return result


def _triple(values: list[float]) -> Triple:
    red, green, blue = (float(value) for value in values)
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError("a value is not finite")
    return red, green, blue


OXFORD = Preprocessing("bgr", 255.0, (103.939, 116.779, 123.68))
"""The Caffe networks of Oxford (Simonyan & Zisserman) and Berkeley, and their Keras ports."""

IMAGENET = Preprocessing("rgb", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""torchvision's networks."""

LPIPS = Preprocessing("rgb", 2.0, (1.0 - 0.030, 1.0 - 0.088, 1.0 - 0.188), (0.458, 0.448, 0.450))
"""The scaling layer of LPIPS, including the map to [-1, 1] before it (Zhang et al. 2018)."""

IDENTITY = Preprocessing()
"""RGB in [0, 1], unchanged."""
