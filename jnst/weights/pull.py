"""What a source's server is asked for: a file, the tensors in use out of one, or a model and its shards."""

import urllib.parse
from pathlib import Path

from jnst.weights.bar import progress
from jnst.weights.cache import Place, say
from jnst.weights.download import Listener, NoRanges, Piece, download
from jnst.weights.formats.tensors import MAX_BYTES
from jnst.weights.formats.tfjs import MAX_JSON_BYTES, wanted_shards
from jnst.weights.keep import check_documented
from jnst.weights.layouts import used_tensors
from jnst.weights.opener import Refused, Transport
from jnst.weights.ranged import download_tensors
from jnst.weights.registry import Source


def pull(source: Source, place: Place, whole: bool, transport: Transport) -> Path:
    """Download what is needed of a source into the folder of what is not checked yet.

    Args:
        source: What.
        place: Where its files are.
        whole: Download the whole file where only the tensors in use would do.
        transport: How patiently.

    Returns:
        The file to read.

    Raises:
        Refused: It cannot be had, or is larger than expected.
        Interrupted: Too many tries in a row failed; what can be gone on with is still there.
        WrongContent: A model whose shards cannot be asked for, because its own hash is wrong.
        WeightsError: A model that is not readable.
        OSError: The disk is full, or the folder cannot be written.
    """
    needed = source.megabytes if whole else source.needed_megabytes or source.megabytes
    place.partial.mkdir(exist_ok=True)
    with progress(needed and needed * 1e6) as listen:
        if source.file_name == "model.json":
            return _pull_shards(source, place, transport, listen)
        piece = Piece(
            source.address,
            most_bytes(source.megabytes),
            stated=source.hash_value if source.hash_kind == "sha256" else None,
        )
        if source.needed_megabytes and not whole:
            path = place.partial / "tensors" / source.file_name
            try:
                download_tensors(piece, most_bytes(needed), used_tensors, path, transport, listen)
                return path
            except NoRanges as error:
                say(f"{error}: downloading all {source.megabytes:.3g} MB")
        path = place.partial / source.file_name
        download(piece, path, transport, listen)
        return path


def _pull_shards(source: Source, place: Place, transport: Transport, listen: Listener) -> Path:
    """Download a TensorFlow.js model without its classifier."""
    model = place.partial / source.file_name
    download(Piece(source.address, MAX_JSON_BYTES), model, transport, lambda count: None)
    # Before any name in it is believed.
    check_documented(source, source.file_name, model)
    groups, arrived = wanted_shards(model, used_tensors), 0
    declared = sum(size for _, size in groups)
    if declared > most_bytes(source.megabytes):
        raise Refused(f"the model declares {declared} bytes, expected at most {most_bytes(source.megabytes)}")
    for names, size in groups:
        for name in names:
            path = model.parent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            address = urllib.parse.urljoin(source.address, urllib.parse.quote(name))
            download(Piece(address, size), path, transport, lambda count, before=arrived: listen(before + count))
            arrived += path.stat().st_size
    return model


def most_bytes(megabytes: float | None) -> int:
    """How many bytes a download may have, whose size is documented roughly or not at all."""
    return MAX_BYTES if megabytes is None else round(1.1e6 * megabytes) + 1_000_000
