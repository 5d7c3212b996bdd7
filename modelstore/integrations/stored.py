"""A version as torch.distributed.checkpoint sees it: its items, and any rows of any chunk of them.

Rows are what a shard usually is. Only the blocks of a blob that they lie in are decoded, so that a
job of any number of ranks reads a version once, and not once per rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from modelstore.errors import IntegrityError, NotFoundError
from modelstore.hashing import Digest
from modelstore.integrations.checkpoint_index import INDEX, Place, Places, decode
from modelstore.integrations.tensors import TORCH_NAMES, TorchTensors
from modelstore.manifest import FileEntry, Manifest
from modelstore.numeric import item_size
from modelstore.ops import present
from modelstore.ops.read import Located, read_span, readable_tensors, whole_values
from modelstore.ops.resolve import Resolved
from modelstore.store import Store
from modelstore.values import check_fit


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a tensor, decoded.

    Attributes:
        values: of the tensor's shape but for the first dimension; all of a scalar.
        start: the first of them.
    """

    values: torch.Tensor
    start: int = 0

    def part(self, offsets: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
        """Return a box of the tensor, which lies within the rows; ``offsets`` are the tensor's."""
        found = self.values
        for dimension, (offset, length) in enumerate(zip(offsets, lengths, strict=True)):
            found = found.narrow(dimension, offset - (0 if dimension else self.start), length)
        return found


class StoredCheckpoint:
    """A version whose content is read item by item.

    Attributes:
        id: the version's.
        metadata: what it holds, for the planner.

    Args:
        metadata, places: what it holds, and where.
    """

    def __init__(
        self,
        store: Store,
        resolved: Resolved,
        content: Manifest,
        metadata: Metadata,
        places: Places,
    ) -> None:
        self.id: Digest | None = resolved.id
        self.metadata = metadata
        self._store = store
        self._ref = str(resolved)
        self._places = places
        self._files = {file.path: file for file in content.files}
        self._located = {
            (file.path, tensor.name): Located(file, span, tensor)
            for file, span, tensor in content.tensors()
        }

    @classmethod
    def of(cls, store: Store, resolved: Resolved) -> StoredCheckpoint:
        """Open a version: a distributed checkpoint, or any other with tensors.

        Raises:
            NotFoundError: its content is not here, or it has no tensors.
            IntegrityError: it is damaged.
        """
        present.require(store, resolved)
        content = store.manifest(resolved.model, resolved.entry)
        file = content.file(INDEX)
        if file is None:
            return cls(store, resolved, content, *_of_tensors(content, str(resolved)))
        data = _read(store, file)
        return cls(store, resolved, content, *decode(data, f"{INDEX} of {resolved}"))

    def chunk(self, index: MetadataIndex) -> Located:
        """Return the tensor that one chunk of an item is.

        Raises:
            IntegrityError: the version has no such tensor.
        """
        place = self._places[index]
        found = self._located.get((place.file, place.tensor))
        item = self.metadata.state_dict_metadata[index.fqn]
        if found is None or not isinstance(item, TensorStorageMetadata):
            raise self._lacks(index)
        sizes = [tuple(c.sizes) for c in item.chunks if c.offsets == index.offset]
        kind = getattr(torch, TORCH_NAMES.get(found.tensor.dtype, ""), None)
        if kind is None or tuple(found.tensor.shape) not in sizes:
            raise self._lacks(index)
        check_fit(found.tensor, found.span.size)
        return found

    def rows(self, chunk: Located, start: int, stop: int) -> Rows:
        """Return the rows ``[start, stop)`` of a chunk, or all if they do not lie side by side.

        Raises:
            IntegrityError: its blob is damaged.
        """
        tensor, span = chunk.tensor, chunk.span
        arrays = TorchTensors()
        count = tensor.shape[0] if tensor.shape else 0
        if tensor.view is None and stop - start < count and span.size:
            row = span.size // count
            data = bytearray(self._store.blobs.read_range(span.blob, start * row, stop * row))
            flat = arrays.flat(data, tensor.dtype)
            return Rows(flat.view(stop - start, *tensor.shape[1:]), start)
        flat = arrays.flat(whole_values(read_span(self._store, span), tensor.dtype), tensor.dtype)
        return Rows(arrays.shaped(flat, tensor))

    def bytes_of(self, index: MetadataIndex) -> bytes:
        """Return the bytes of an item that is no tensor.

        Raises:
            IntegrityError: the version does not hold them.
        """
        place = self._places[index]
        file = self._files.get(place.file)
        if file is None or not place.start <= place.stop <= file.size:
            raise self._lacks(index)
        found = []
        position = 0
        for span in file.spans:
            start, stop = max(place.start - position, 0), min(place.stop - position, span.size)
            if start < stop:
                found.append(self._store.blobs.read_range(span.blob, start, stop))
            position += span.size
        return b"".join(found)

    def _lacks(self, index: MetadataIndex) -> IntegrityError:
        return IntegrityError(
            f"{self._ref} does not hold {index.fqn!r} where {INDEX} says so",
            "run: mstore fsck --full",
        )


def _read(store: Store, file: FileEntry) -> bytes:
    return b"".join(store.blobs.read(span.blob, most=span.size) for span in file.spans)


def _of_tensors(content: Manifest, ref: str) -> tuple[Metadata, dict[MetadataIndex, Place]]:
    """Describe the tensors of a version that is no distributed checkpoint; each is one chunk."""
    items: dict[str, Any] = {}
    places: dict[MetadataIndex, Place] = {}
    for name, one in readable_tensors(content, (), ref).items():
        tensor = one.tensor
        if not item_size(tensor.dtype):  # packed: its values are no numbers of torch
            continue
        size, origin = torch.Size(tensor.shape), torch.Size([0] * len(tensor.shape))
        properties = TensorProperties(dtype=getattr(torch, TORCH_NAMES[tensor.dtype]))
        items[name] = TensorStorageMetadata(properties, size, [ChunkStorageMetadata(origin, size)])
        places[MetadataIndex(name, origin)] = Place(one.file.path, tensor.name)
    if not items:
        raise NotFoundError(f"{ref} has no tensors", f"list its files: mstore show {ref}")
    return Metadata(items, storage_data=places), places
