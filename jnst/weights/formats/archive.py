"""The entries of a zip archive, checked against archives that lie."""

import zipfile
from collections import Counter
from pathlib import Path

from jnst.errors import WeightsError


def entries_of(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the entries of an archive by name, without folders.

    Args:
        path: The archive's file.
        archive: The archive.

    Raises:
        WeightsError: Two entries have the same name, so that it is not clear which one is meant. Or an entry claims
            more bytes than the file has, which would be allocated before they are found to be missing.
    """
    infos = [info for info in archive.infolist() if not info.is_dir()]
    name, count = (Counter(info.filename for info in infos).most_common(1) or [("", 0)])[0]
    if count > 1:
        raise WeightsError(
            f"{path}: has {count} entries named {name[:100]!r}, expected one: do not trust this file, get it from its "
            "publisher"
        )
    size = path.stat().st_size
    if any(info.header_offset + info.compress_size > size for info in infos):
        raise WeightsError(f"{path}: its directory lists more bytes than the file has: it is truncated, get it again")
    return {info.filename: info for info in infos}
