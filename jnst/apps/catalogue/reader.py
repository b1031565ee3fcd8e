"""Images read from files, each once as long as memory allows."""

from collections import OrderedDict

from jnst.apps.catalogue.blocks import Source
from jnst.apps.io.readings import read
from jnst.errors import ImageError
from jnst.images import FITS
from jnst.types import Image


class Reader:
    """Reads images and keeps those used last; asked again, it gives the same array, by which targets are known.

    Args:
        fit: How contents are brought to their shape: a key of `jnst.transfer.inputs.FITS`.
        limit: Of the images kept, in bytes; the last one stays in any case.

    Attributes:
        reads: How many files were decoded.
    """

    def __init__(self, fit: str, limit: int = 2**30) -> None:
        self.reads = 0
        self._fit = fit
        self._limit = limit
        self._kept: OrderedDict[Source, Image] = OrderedDict()
        self._damaged: dict[Source, str] = {}

    def __call__(self, source: Source) -> Image:
        """The image, ``(h, w, 3)`` in [0, 1].

        Raises:
            ImageError: As `jnst.load_image`, and the same at every later call.
        """
        if source in self._damaged:
            raise ImageError(self._damaged[source])
        if source not in self._kept:
            self._kept[source] = self._read(source)
        self._kept.move_to_end(source)
        while len(self._kept) > 1 and sum(image.nbytes for image in self._kept.values()) > self._limit:
            self._kept.popitem(last=False)
        return self._kept[source]

    def _read(self, source: Source) -> Image:
        self.reads += 1
        try:
            image = read(source.path, source.how)
        except ImageError as error:
            self._damaged[source] = str(error)
            raise
        return image if source.shape is None else FITS[self._fit](image, source.shape)
