"""The image sizes of a coarse-to-fine run."""

import dataclasses
import math

from jnst.errors import ArgumentError
from jnst.images.resize import fit_shape


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """The image sizes of a coarse-to-fine run: each is ``factor`` times the previous one, up to the full size.

    Attributes:
        factor: The ratio of neighbouring sizes; 2 for octaves.
        min_size: The shortest longer side of any size, in pixels.
        levels: The maximum number of sizes. None for as many as ``min_size`` allows.

    Raises:
        ArgumentError: A factor that is not above 1, or ``min_size`` or ``levels`` below 1.

    References:
        Gatys, Ecker, Bethge, Hertzmann & Shechtman, Controlling Perceptual Factors in Neural Style Transfer, CVPR 2017,
        section 6.

    >>> Pyramid(factor=2.0).shapes((300, 512))
    ((75, 128), (150, 256), (300, 512))
    """

    factor: float = math.sqrt(2.0)
    min_size: int = 128
    levels: int | None = None

    def __post_init__(self) -> None:
        if not (1.0 < self.factor < math.inf and self.min_size >= 1 and (self.levels is None or self.levels >= 1)):
            raise ArgumentError(
                f"invalid pyramid with factor {self.factor}, min_size {self.min_size}, levels {self.levels}: "
                "give a finite factor above 1, and at least 1 for the others"
            )

    def shapes(self, shape: tuple[int, int], proportions: tuple[int, int] | None = None) -> tuple[tuple[int, int], ...]:
        """Return the distinct sizes (h, w), from the coarsest to ``shape`` itself.

        Args:
            shape: The full size.
            proportions: Height and width of the image before its size was rounded to ``shape``. None: ``shape``.
        """
        longer = max(shape)
        shapes = [(shape[0], shape[1])]
        while self.levels is None or len(shapes) < self.levels:
            # To six digits first: powers of the square root of 2 are not exact, and halves would be rounded down.
            side = round(round(longer / self.factor ** len(shapes), 6))
            if side < self.min_size:
                break
            shapes.append(fit_shape(proportions or shape, side))
        return tuple(reversed(dict.fromkeys(shapes)))
