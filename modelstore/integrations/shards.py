"""What one rank writes of a distributed checkpoint: two files of the version, straight into the store.

The tensors that a rank saves make a safetensors file, one blob each, so that what did not change
since the last checkpoint costs nothing and what did is made against it. All else (step numbers,
learning rates) comes from the planner as bytes; they lie one after the other in a second file.
Neither file exists on a disk: only their blobs do, and what a manifest says of them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem

from modelstore.blobs import Added, BytesSource, Known, Transaction
from modelstore.blobs.parallel import default_threads, in_order
from modelstore.errors import UsageError
from modelstore.formats.base import Tensor
from modelstore.formats.split import split
from modelstore.hashing import Bytes, Digest, FileHasher, digest_of
from modelstore.integrations.checkpoint_index import Place
from modelstore.integrations.tensors import TORCH_NAMES
from modelstore.manifest import BlobSpan, FileEntry
from modelstore.numeric import dtype_named
from modelstore.ops.bases import Bases
from modelstore.ops.stage import Staged, columns_of

_SAFETENSORS = {
    getattr(torch, name): kind for kind, name in TORCH_NAMES.items() if kind != "C128"
}  # fmt: skip
"""The kinds of safetensors, which has no complex numbers of 16 bytes."""

_ITEMS_BEGIN = b"mstore items 1\n"
"""What a file of items begins with, lest it be taken for the archive that its first item is."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one rank wrote, durable by now; made to be sent to the coordinator.

    Attributes:
        files: as the manifest will have them.
        staged: the blobs that they consist of, and what they cost.
    """

    files: tuple[FileEntry, ...]
    staged: Staged


class PartWriter:
    """Adds the files of one rank to a transaction.

    Args:
        transaction: which is published afterwards.
        bases: what tensors may be built on.
    """

    def __init__(self, transaction: Transaction, bases: Bases) -> None:
        self._transaction = transaction
        self._bases = bases
        self._stored = 0
        self._new = 0
        self._needed: set[Digest] = set()
        self._files: list[FileEntry] = []

    def part(self) -> Part:
        """Return what was written."""
        staged = Staged(self._stored, self._new, frozenset(self._needed))
        return Part(tuple(self._files), staged)

    # --- tensors

    def write_tensors(
        self, path: str, items: Sequence[WriteItem], planner: SavePlanner
    ) -> dict[MetadataIndex, Place]:
        """Write the tensors of ``items`` as a safetensors file; return where each lies.

        Raises:
            UsageError: one is of a dtype or layout that safetensors has not, or two have one name.
        """
        found = [_Named.of(item, planner.resolve_data(item)) for item in items]
        found.sort(key=lambda one: (-one.width, one.tensor.name))  # aligned, as safetensors does it
        names = {one.tensor.name for one in found}
        if len(names) < len(found):
            raise UsageError("two tensors, or chunks of tensors, of the state have one name")
        header = _header(found)
        hasher = FileHasher(len(header) + sum(one.size for one in found))
        hasher.update(header)
        spans = [self._keep(header, BlobSpan(digest_of(header), len(header)))]

        def resolved() -> Iterator[tuple[BlobSpan, Bytes]]:
            for one in found:
                data = _bytes_of(one, planner)
                hasher.update(data)
                tensors = (one.tensor,)
                yield BlobSpan(digest_of(data), one.size, one.tensor.dtype, tensors), data

        spans += in_order(self._add_tensor, resolved(), default_threads())
        self._finish(path, hasher, "safetensors", spans)
        return {one.item.index: Place(path, one.tensor.name) for one in found}

    def _add_tensor(self, given: tuple[BlobSpan, Bytes]) -> BlobSpan:
        span, data = given
        source = BytesSource(data)
        known = Known(columns_of(span), self._bases.others(span, source))
        added = self._transaction.add(
            span.blob,
            source,
            dtype=dtype_named(span.dtype),
            bases=self._bases.of(span),
            known=known,
        )
        return self._note(span, added)

    # --- bytes

    def write_items(
        self, path: str, items: Sequence[WriteItem], planner: SavePlanner
    ) -> dict[MetadataIndex, Place]:
        """Write what ``planner`` makes of ``items``, one after the other; return where each lies.

        Raises:
            UsageError: one could only be loaded again by running what it holds.
        """
        content = bytearray(_ITEMS_BEGIN)
        places = {}
        for item in sorted(items, key=lambda item: item.index.fqn):
            data = planner.resolve_data(item)
            if not isinstance(data, io.BytesIO):
                raise UsageError(f"the planner hands over no bytes for {item.index.fqn!r}")
            require_plain(data.getvalue(), item.index.fqn)
            start = len(content)
            content += data.getbuffer()
            places[item.index] = Place(path, "", start, len(content))
        self.write_file(path, bytes(content))
        return places

    def write_file(self, path: str, data: bytes) -> None:
        """Write a file, cut as a commit of it would be."""
        source = _NamedBytes(path, data)
        cut = split(source)
        hasher = FileHasher(len(data))
        hasher.update(data)
        spans = []
        for span in cut.spans:
            piece = source.read(span.start, span.stop)
            blob = BlobSpan(digest_of(piece), len(piece), span.dtype, span.tensors)
            spans.append(self._keep(piece, blob))
        self._finish(path, hasher, cut.format, spans)

    def _keep(self, data: Bytes, span: BlobSpan) -> BlobSpan:
        dtype = dtype_named(span.dtype)
        return self._note(span, self._transaction.add(span.blob, BytesSource(data), dtype=dtype))

    def _note(self, span: BlobSpan, added: Added) -> BlobSpan:
        self._stored += added.stored_size if added.new else 0
        self._new += added.new
        self._needed.update((span.blob, *added.built_on))
        return span

    def _finish(self, path: str, hasher: FileHasher, kind: str, spans: Sequence[BlobSpan]) -> None:
        self._files.append(
            FileEntry(
                path=path,
                size=sum(span.size for span in spans),
                blake3=hasher.blake3,
                sha256=hasher.sha256,
                git_sha1=hasher.git_sha1,
                format=kind,
                executable=False,
                spans=tuple(spans),
            )
        )


class _NamedBytes(BytesSource):
    """Bytes in memory that are cut like a file of this name."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(data)
        self.name = name


@dataclass(frozen=True, slots=True)
class _Named:
    """A tensor that is to be written, without its values."""

    item: WriteItem
    tensor: Tensor
    width: int
    size: int

    @classmethod
    def of(cls, item: WriteItem, value: Any) -> _Named:
        """Describe ``value``, which the planner hands over for ``item``."""
        name = _name_of(item)
        kind = _SAFETENSORS.get(value.dtype)
        if kind is None or value.layout is not torch.strided:
            raise UsageError(
                f"{name!r} is a tensor of {value.dtype} and {value.layout}, "
                "which safetensors cannot hold",
                "convert it before it is saved",
            )
        width = value.element_size()
        return cls(item, Tensor(name, kind, tuple(value.shape)), width, value.numel() * width)


def _name_of(item: WriteItem) -> str:
    """Return the name of a tensor: the item's, and which part of it where it is not the whole.

    As Python would slice it: `model.embed.weight[0:512,0:64]`.
    """
    data = item.tensor_data
    if data is None or data.chunk.sizes == data.size:
        return str(item.index.fqn)
    chunk = zip(data.chunk.offsets, data.chunk.sizes, strict=True)
    return f"{item.index.fqn}[{','.join(f'{start}:{start + size}' for start, size in chunk)}]"


def _header(tensors: Sequence[_Named]) -> bytes:
    """Return the length and the JSON that begin a safetensors file of these tensors.

    The format: https://github.com/huggingface/safetensors, "Format".
    """
    value: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for one in tensors:
        value[one.tensor.name] = {
            "dtype": one.tensor.dtype,
            "shape": list(one.tensor.shape),
            "data_offsets": [start, start + one.size],
        }
        start += one.size
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes_of(one: _Named, planner: SavePlanner) -> Bytes:
    """Return the values of a tensor in row-major order, little-endian."""
    value = planner.resolve_data(one.item)
    if (_SAFETENSORS.get(value.dtype), tuple(value.shape)) != (one.tensor.dtype, one.tensor.shape):
        raise UsageError(f"{one.tensor.name!r} changed while it was being saved")
    if not value.numel():
        return b""
    flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())


def require_plain(data: bytes, name: str) -> None:
    """Raise unless ``data`` is what `torch.save` makes of plain values and tensors.

    Planners load such items with `torch.load`, and `DefaultLoadPlanner` even with
    ``weights_only=False``: it would run whatever the bytes say. What torch's restricted reader
    takes is harmless in the other one too.

    Raises:
        UsageError: it is not.
    """
    try:
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle's own kind among others, which is not to be imported
        raise UsageError(
            f"{name!r} holds more than plain values and tensors, so loading it could run anything",
            "save its state_dict() instead, or let torch know its class: "
            "torch.serialization.add_safe_globals([...])",
        ) from error
