"""Pictures read from files, each once as long as memory allows."""

from collections import OrderedDict

from jnst.catalogue.blocks import Source
from jnst.errors import PictureError
from jnst.io.readings import read
from jnst.pictures import FITS
from jnst.types import Image


class Reader:
    """Reads pictures and keeps those used last; asked again, it gives the same array, by which targets are known.

    Args:
        fit: How contents are brought to their shape: a key of `jnst.pictures.FITS`.
        limit: Of the pictures kept, in bytes; the last one stays in any case.

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
        """The picture, ``(h, w, 3)`` in [0, 1].

        Raises:
            PictureError: As `jnst.load_image`, and the same at every later call.
        """
        if source in self._damaged:
            raise PictureError(self._damaged[source])
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
        except PictureError as error:
            self._damaged[source] = str(error)
            raise
        return image if source.shape is None else FITS[self._fit](image, source.shape)
