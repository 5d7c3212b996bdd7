"""Spans of the files that torch.save writes: the tensors of a `.bin`, `.pt` or `.pth`.

Such a file is a zip file of stored entries under one directory: ``data.pkl`` describes the tensors,
``data/<key>`` are the storages they lie in, ``byteorder`` says how
(caffe2/serialize/inline_container.h in PyTorch). Nothing is ever unpickled.
Older files, before PyTorch 1.6, are a bare pickle and stay opaque.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelstore.formats.base import MalformedError, Source, Span
from modelstore.formats.rules import fill, quoted
from modelstore.formats.torch_pickle import MAX_PICKLE, PickledTensor, Storage, read_tensors
from modelstore.formats.torch_storage import storage_spans
from modelstore.formats.zip_directory import Entry, first_name, read_entries
from modelstore.numeric import item_size

_FIRST_RECORDS = {"data.pkl", "version", "byteorder", "constants.pkl", ".format_version"}
_ORDER_SIZE = 6


class TorchZip:
    """Finds the tensors of a file that torch.save wrote."""

    name = "torch"

    def matches(self, source: Source) -> bool:
        """Tell by a zip entry that torch would write first, within a directory."""
        directory, _, record = first_name(source).partition("/")
        return bool(directory) and record in _FIRST_RECORDS

    def spans(self, source: Source) -> Sequence[Span]:
        """Return the tensors' spans, and literal ones for all between.

        Storages whose bytes cannot be read as tensors are literal, each on its own.
        """
        records = _records(source)
        described = read_tensors(_pickle(source, records))
        tensors: dict[str, dict[str, PickledTensor]] = {}
        if not _is_big_endian(source, records):
            for name, tensor in described.tensors.items():
                tensors.setdefault(tensor.storage.key, {})[name] = tensor
        entries = {one.key: _entry(records, one) for one in described.storages}
        found = _found(entries, tensors)
        return fill(sorted(found, key=lambda span: (span.start, span.stop)), source.size)


def _records(source: Source) -> dict[str, Entry]:
    """Return the entries by their name within the one directory that all must be in."""
    directory = ""
    records: dict[str, Entry] = {}
    for entry in read_entries(source).values():
        prefix, _, record = entry.name.partition("/")
        directory = directory or prefix
        if prefix != directory or not record or ".." in record.split("/"):
            raise MalformedError(f"its entry {quoted(entry.name)} is not in {quoted(directory)}")
        records[record] = entry
    return records


def _pickle(source: Source, records: dict[str, Entry]) -> bytes:
    entry = records.get("data.pkl")
    if entry is None:
        raise MalformedError("it has no data.pkl")
    if entry.stop - entry.start > MAX_PICKLE:
        raise MalformedError(f"its pickle has {entry.stop - entry.start} bytes")
    return source.read(entry.start, entry.stop)


def _is_big_endian(source: Source, records: dict[str, Entry]) -> bool:
    entry = records.get("byteorder")
    if entry is None:
        return False
    order = source.read(entry.start, min(entry.stop, entry.start + _ORDER_SIZE + 1))
    if order not in (b"little", b"big"):
        raise MalformedError(f"it claims the byte order {quoted(order.decode('latin-1'))}")
    return order == b"big"


def _entry(records: dict[str, Entry], storage: Storage) -> Entry:
    entry = records.get(f"data/{storage.key}")
    if entry is None:
        raise MalformedError(f"its pickle claims a storage {quoted(storage.key)} that it lacks")
    claimed = storage.size * (item_size(storage.dtype) or 1)
    if claimed != entry.stop - entry.start:
        raise MalformedError(
            f"its pickle claims {claimed} bytes for the storage {quoted(storage.key)} of "
            f"{entry.stop - entry.start}"
        )
    return entry


def _found(
    entries: dict[str, Entry], tensors: dict[str, dict[str, PickledTensor]]
) -> Iterator[Span]:
    for key, entry in entries.items():
        if key in tensors:
            yield from storage_spans(entry.start, entry.stop, tensors[key])
        elif entry.start < entry.stop:
            yield Span(entry.start, entry.stop)
