"""Some tensors out of a safetensors file on a server, without the rest of it."""

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jnst.weights.download import Changed, Listener, Piece, Version, download, forget
from jnst.weights.formats.tensors import Keep
from jnst.weights.opener import Refused, Transport

HEAD_BYTES = 1 << 16
"""What is asked for first: of most files the whole header."""

MAX_HEADER_BYTES = 16 << 20
GAP_BYTES = 1 << 16
"""Tensors that are no further apart come by one request, with what lies between them."""


def download_tensors(
    piece: Piece, most_needed: int, keep: Keep, path: Path, transport: Transport, listen: Listener
) -> None:
    """Download tensors into a safetensors file that holds them alone, in their order in the published one.

    Args:
        piece: The published file, the whole of it.
        most_needed: Bytes that the wanted tensors may have together.
        keep: Which tensors are wanted.
        path: The file to write. Its folder is used for parts that are on their way, and can be gone on with later.
        transport: How patiently.
        listen: Told how many bytes are here.

    Raises:
        NoRanges: The server sends whole files only.
        Refused: It cannot be had, is larger than allowed, or is no safetensors file.
        Interrupted: Too many tries in a row failed.
        OSError: The disk is full, or the folder cannot be written.

    References:
        https://github.com/huggingface/safetensors#format: the header's length as a little-endian uint64, the header
        in JSON, the tensors' bytes without gaps.
    """
    try:
        _download_tensors(piece, most_needed, keep, path, transport, listen)
    except Changed:
        # What was here is gone: once more, from the beginning.
        _clear(path)
        _download_tensors(piece, most_needed, keep, path, transport, listen)


def _download_tensors(
    piece: Piece, most_needed: int, keep: Keep, path: Path, transport: Transport, listen: Listener
) -> None:
    version, header, data_begin = _header(piece, path, transport)
    metadata = header.pop("__metadata__", {})
    wanted = keep(header, metadata)
    offsets = {name: header[name]["data_offsets"] for name in sorted(wanted, key=lambda name: _begin(header[name]))}
    needed = sum(end - begin for begin, end in offsets.values())
    if needed > most_needed:
        raise Refused(f"the tensors that are needed have {needed} bytes, expected at most {most_needed}")
    spans, arrived = _spans(list(offsets.values())), 0
    for begin, end in spans:
        part = _part(path, begin)
        span = Piece(piece.address, piece.most, data_begin + begin, end - begin, version, piece.stated)
        download(span, part, transport, lambda count, before=arrived: listen(before + count))
        arrived += end - begin
    _compose(path, header, metadata, offsets, spans)
    _clear(path)


def _header(piece: Piece, path: Path, transport: Transport) -> tuple[Version, dict[str, Any], int]:
    """The version of the file, its header, and where its tensors' bytes begin."""
    part = _part(path, "head")
    version = _download_head(piece, HEAD_BYTES, None, part, transport)
    (length,) = struct.unpack("<Q", part.read_bytes()[:8].ljust(8, b"\xff"))
    assert version.total is not None
    if length > min(MAX_HEADER_BYTES, version.total - 8) or version.total > piece.most:
        raise Refused(f"{version.total} bytes with a header of {length} are no safetensors file that was expected")
    if 8 + length > HEAD_BYTES:
        _download_head(piece, 8 + length, version, part, transport)
    try:
        header = json.loads(part.read_bytes()[8 : 8 + length])
        _check_offsets(header, version.total - 8 - length)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refused(f"the file has no header of safetensors ({str(error)[:80]!r})") from error
    return version, header, 8 + length


def _check_offsets(header: Mapping[str, Any], length: int) -> None:
    """Raise a `ValueError` or `TypeError` unless the tensors fill the file, one behind the other."""
    offsets = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
    position = 0
    for begin, end in sorted(offsets):
        if not (type(begin) is type(end) is int and position == begin <= end):
            raise ValueError(f"offsets {begin!r:.20}, {end!r:.20}")
        position = end
    if position != length or not isinstance(header.get("__metadata__", {}), dict):
        raise ValueError(f"{position} bytes of tensors in {length}")


def _download_head(piece: Piece, size: int, of: Version | None, part: Path, transport: Transport) -> Version:
    part.parent.mkdir(parents=True, exist_ok=True)
    # Never one from an earlier run: it says which version is there now.
    forget(part)
    return download(
        Piece(piece.address, piece.most, 0, size, of, piece.stated), part, transport, listen=lambda count: None
    )


def _begin(entry: Mapping[str, Any]) -> int:
    return entry["data_offsets"][0]


def _spans(offsets: list[list[int]]) -> list[tuple[int, int]]:
    """Consecutive bytes that hold all tensors, in order."""
    spans: list[tuple[int, int]] = []
    for begin, end in offsets:
        if spans and begin - spans[-1][1] <= GAP_BYTES:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        elif end > begin:
            spans.append((begin, end))
    return spans


def _compose(
    path: Path,
    header: Mapping[str, Any],
    metadata: Mapping[str, str],
    offsets: Mapping[str, list[int]],
    spans: list[tuple[int, int]],
) -> None:
    """Write the file; the reader checks shapes against lengths, as it does for any file."""
    written: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name, (begin, end) in offsets.items():
        written[name] = {**header[name], "data_offsets": [position, position + end - begin]}
        position += end - begin
    text = json.dumps(written, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for begin, end in offsets.values():
            if begin < end:
                span = next(span for span in spans if span[0] <= begin and end <= span[1])
                with _part(path, span[0]).open("rb") as part:
                    part.seek(begin - span[0])
                    file.write(part.read(end - begin))


def _part(path: Path, which: int | str) -> Path:
    return path.parent / "parts" / f"{which}"


def _clear(path: Path) -> None:
    shutil.rmtree(path.parent / "parts", ignore_errors=True)
