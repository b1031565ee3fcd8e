"""The sizes of a coarse-to-fine run."""

import dataclasses
import math

from jnst.errors import ArgumentError
from jnst.images.resize import fit_shape


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """The sizes of a coarse-to-fine run: each ``factor`` times the one before, ending at the full size.

    Attributes:
        factor: Between neighbouring sizes; 2 for octaves.
        min_size: No size has a longer side below this.
        levels: How many sizes at the most; None for as many as ``min_size`` allows.

    Raises:
        ArgumentError: A factor that is not above 1, or sizes or levels below 1.

    References:
        Gatys et al., Controlling Perceptual Factors in Neural Style Transfer, CVPR 2017, section 6.
    """

    factor: float = math.sqrt(2.0)
    min_size: int = 128
    levels: int | None = None

    def __post_init__(self) -> None:
        if not (1.0 < self.factor < math.inf and self.min_size >= 1 and (self.levels is None or self.levels >= 1)):
            raise ArgumentError(
                f"pyramid with factor {self.factor}, min_size {self.min_size}, levels {self.levels}: "
                "expected a factor above 1, and at least 1 for the others"
            )

    def shapes(self, shape: tuple[int, int], proportions: tuple[int, int] | None = None) -> tuple[tuple[int, int], ...]:
        """Return (h, w) of every size from the coarsest to ``shape`` itself, each once.

        Args:
            shape: The full size.
            proportions: Height and width of the image that it was rounded from; None: ``shape``'s.
        """
        longer = max(shape)
        shapes = [tuple(shape)]
        while self.levels is None or len(shapes) < self.levels:
            side = round(longer / self.factor ** len(shapes))
            if side < self.min_size:
                break
            shapes.append(fit_shape(proportions or shape, side))
        return tuple(reversed(dict.fromkeys(shapes)))  # pyright: ignore[reportReturnType]
