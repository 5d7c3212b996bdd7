"""Tensors of a version, decoded straight from the store, without writing files.

A tensor goes by its name. That of a file in a subdirectory has the directory before it
(``unet/conv_in.weight``). Where several files of a directory hold the same name, safetensors comes
before torch files, those before GGUF, and a shorter file name before a longer one
(``model.safetensors`` before ``model.fp16.safetensors``); ``files`` chooses otherwise.
The adapter that a version keeps beside the weights it was merged into is no part of the model; its
tensors are read where a pattern of ``files`` begins with ``adapter/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

from modelstore.blobs.parallel import in_order
from modelstore.canonical import parse_mapping
from modelstore.errors import IntegrityError, NotFoundError
from modelstore.formats.base import Tensor
from modelstore.manifest import BlobSpan, FileEntry, Manifest
from modelstore.numeric import item_size
from modelstore.ops import adapter, present
from modelstore.ops.resolve import Resolved
from modelstore.store import Store
from modelstore.values import check_fit, is_number

_RANK = {"safetensors": 0, "torch": 1, "gguf": 2}
_WEIGHTS = ("*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pth", "*.ckpt")
"""Files that hold tensors, or that a reader would take for such."""

_ONLY_WEIGHTS = re.compile(r".*(\.safetensors|\.gguf|-\d{5}-of-\d{5}\.bin)")
"""Those that hold nothing else: a .bin may also be the arguments of a trainer, a shard may not."""

_LENGTH = 8
"""Bytes before the JSON of a safetensors header that say how long it is."""

_SMALL = 4 << 20
"""Bytes of a span up to which it is worth more to read several at once than to split it."""


class Arrays(Protocol):
    """Makes the arrays of some library from the bytes of tensors."""

    def flat(self, data: Any, dtype: str) -> Any:
        """Return the little-endian values in ``data`` as one dimension."""
        ...

    def shaped(self, flat: Any, tensor: Tensor) -> Any:
        """Return ``flat`` as ``tensor`` lies in it."""
        ...


@dataclass(frozen=True, slots=True)
class Located:
    """A tensor, and the file and span it is read from."""

    file: FileEntry
    span: BlobSpan
    tensor: Tensor


def tensors_by_name(manifest: Manifest, files: Sequence[str] = ()) -> dict[str, Located]:
    """Return every tensor by the name it goes by, in file order.

    Args:
        files: shell patterns; only files that fit one are looked at.
    """
    found: dict[str, Located] = {}
    for file in sorted(manifest.files, key=_preference):
        if files and not fits(file, files):
            continue
        directory = file.path.rpartition("/")[0]
        prefix = f"{directory}/" if directory else ""
        for span in file.spans:
            for tensor in span.tensors:
                found.setdefault(prefix + tensor.name, Located(file, span, tensor))
    return found


def readable_tensors(manifest: Manifest, files: Sequence[str], ref: str) -> dict[str, Located]:
    """Return `tensors_by_name`, where some would not be missing that a file seems to hold.

    Raises:
        NotFoundError: no file fits ``files``, none holds weights, or one could not be parsed.
    """
    if not any(pattern.startswith(f"{adapter.DIRECTORY}/") for pattern in files):
        manifest = adapter.without_adapter(manifest)
    found = tensors_by_name(manifest, files)
    chosen = [file for file in manifest.files if fits(file, files or _WEIGHTS)]
    if not chosen:
        what = f"file that fits {', '.join(map(repr, files))}" if files else "weights file"
        raise NotFoundError(f"{ref} has no {what}", f"list its files: mstore show {ref}")
    opaque = [file.path for file in chosen if file.format == "opaque"]
    parsed = len(opaque) < len(chosen)
    lost = [path for path in opaque if not parsed or _ONLY_WEIGHTS.fullmatch(path)]
    if lost:
        raise NotFoundError(
            f"{ref}: no tensors could be read from {', '.join(lost)}",
            f"have the files themselves: mstore checkout {ref} -o DIR",
        )
    return found


def fits(file: FileEntry, patterns: Sequence[str]) -> bool:
    """Tell whether a file's path fits one of some shell patterns."""
    return any(fnmatchcase(file.path, pattern) for pattern in patterns)


def _preference(file: FileEntry) -> tuple[int, int, str]:
    return _RANK.get(file.format, len(_RANK)), len(file.path), file.path


def read_file(store: Store, resolved: Resolved, path: str) -> bytes:
    """Return the bytes of one file of a version.

    Raises:
        NotFoundError: it has no such file.
        IntegrityError: a blob is damaged.
    """
    present.require(store, resolved)
    file = store.manifest(resolved.model, resolved.entry).file(path)
    if file is None:
        raise NotFoundError(
            f"{resolved} has no file {path!r}", f"list them: mstore show {resolved}"
        )
    return b"".join(store.blobs.read(span.blob, most=span.size) for span in file.spans)


def load(
    store: Store,
    manifest: Manifest,
    arrays: Arrays,
    files: Sequence[str] = (),
    *,
    ref: str = "REF",
) -> dict[str, Any]:
    """Return all tensors by name, each in memory of its own; tied names share one array.

    Args:
        arrays: the library to make them for.
        files: shell patterns; only tensors of files that fit one.
        ref: what errors call the version.

    Raises:
        NotFoundError: no file fits, weights could not be parsed, or a blob is not here.
        IntegrityError: a blob is damaged.
    """
    located = readable_tensors(manifest, files, ref)
    spans = _by_span(located)
    found: dict[str, Any] = {}
    for key, data in _contents(store, [span for span, _ in spans.values()]):
        values = _Values(arrays, data)
        found.update((name, values.of(located[name])) for name in spans[key][1])
    return {name: found[name] for name in located}


def _by_span(located: Mapping[str, Located]) -> dict[int, tuple[BlobSpan, list[str]]]:
    """Return the spans, and the names of the tensors in each.

    By identity and not by digest: layers that are equal now must not change together later.
    """
    spans: dict[int, tuple[BlobSpan, list[str]]] = {}
    for name, one in located.items():
        spans.setdefault(id(one.span), (one.span, []))[1].append(name)
    return spans


def _contents(store: Store, spans: Sequence[BlobSpan]) -> Iterator[tuple[int, Any]]:
    """Yield each span's identity and its bytes: small spans side by side, large ones in parallel."""
    small = [span for span in spans if span.size <= _SMALL]
    large = [span for span in spans if span.size > _SMALL]
    for span in large:
        yield id(span), read_span(store, span)
    reading = in_order(lambda span: read_span(store, span), small, store.blobs.threads)
    yield from zip(map(id, small), reading, strict=True)


class _Values:
    """The arrays of one span; tensors that lie in it alike share one."""

    def __init__(self, arrays: Arrays, data: Any) -> None:
        self._arrays = arrays
        self._data = data
        self._flat: dict[str, Any] = {}
        self._shaped: dict[tuple[str, tuple[int, ...], object], Any] = {}

    def of(self, one: Located) -> Any:
        """Return the array of a tensor, the same for tied ones."""
        tensor = one.tensor
        check_fit(tensor, one.span.size)
        if tensor.dtype not in self._flat:
            data = whole_values(self._data, tensor.dtype)
            self._flat[tensor.dtype] = self._arrays.flat(data, tensor.dtype)
        key = (tensor.dtype, tensor.shape, tensor.view)
        if key not in self._shaped:
            self._shaped[key] = self._arrays.shaped(self._flat[tensor.dtype], tensor)
        return self._shaped[key]


def read_span(store: Store, span: BlobSpan) -> Any:
    """Return the bytes of a span as a writable numpy array of uint8.

    Raises:
        IntegrityError: the blob is damaged, or is not of the span's size.
    """
    import numpy as np

    buffer = np.empty(_checked_size(store, span), dtype=np.uint8)
    store.blobs.read_into(span.blob, buffer.data)
    return buffer


def _checked_size(store: Store, span: BlobSpan) -> int:
    """Return the span's size after asking the blob, before memory is taken for what may be a lie."""
    size = store.blobs.header(span.blob).raw_size
    if size != span.size:
        raise IntegrityError(
            f"blob {span.blob[:12]} has {size} bytes and the manifest says {span.size}",
            "run: mstore fsck --full",
        )
    return size


def whole_values(data: Any, dtype: str) -> Any:
    """Return ``data`` without odd bytes at its end that make no value."""
    width = item_size(dtype)
    return data[: len(data) - len(data) % width] if width else data


class Reader:
    """The tensors of a version one by one, as `safetensors.safe_open` gives those of a file.

    Use it as a context manager or not; nothing is held open. Every read verifies.

    Args:
        files: shell patterns; only tensors of files that fit one.
        ref: what errors call the version.

    Raises:
        NotFoundError: no file fits, or weights could not be parsed.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        arrays: Arrays,
        files: Sequence[str] = (),
        *,
        ref: str = "REF",
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._arrays = arrays
        self._located = readable_tensors(manifest, files, ref)
        self._ref = ref

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def keys(self) -> list[str]:
        """Return the names of all tensors, in file order."""
        return list(self._located)

    def metadata(self) -> dict[str, str]:
        """Return the ``__metadata__`` of the safetensors files; of two the first by path wins."""
        files = {one.file.path: one.file for one in self._located.values()}
        found: dict[str, str] = {}
        for path in sorted(files):
            if files[path].format == "safetensors":
                found = {**self._metadata(files[path]), **found}
        return found

    def _metadata(self, file: FileEntry) -> Mapping[str, str]:
        header = self._store.blobs.read(file.spans[0].blob, most=file.spans[0].size)
        value = parse_mapping(header[_LENGTH:], f"the header of {file.path!r}")
        metadata = value.get("__metadata__")
        return metadata if isinstance(metadata, dict) else {}

    def get_tensor(self, name: str) -> Any:
        """Return a tensor.

        Raises:
            NotFoundError: there is none of that name.
            IntegrityError: its blob is damaged.
        """
        one = self._one(name)
        return _Values(self._arrays, read_span(self._store, one.span)).of(one)

    def get_slice(self, name: str) -> Slice:
        """Return a tensor that is not read yet; indexing it reads the rows that it needs.

        Raises:
            NotFoundError: there is none of that name.
        """
        return Slice(self, self._store, self._one(name), name, self._arrays)

    def _one(self, name: str) -> Located:
        try:
            return self._located[name]
        except KeyError:
            raise NotFoundError(
                f"{self._ref} has no tensor {name!r}",
                f"list them: mstore show {self._ref} --tensors",
            ) from None


class Slice:
    """A tensor of which only rows that are asked for are read and decoded."""

    def __init__(
        self, reader: Reader, store: Store, located: Located, name: str, arrays: Arrays
    ) -> None:
        self._reader = reader
        self._store = store
        self._located = located
        self._name = name
        self._arrays = arrays

    def get_shape(self) -> list[int]:
        """Return its shape, outermost dimension first."""
        return list(self._located.tensor.shape)

    def get_dtype(self) -> str:
        """Return its dtype as safetensors spells it, as in "BF16"."""
        return self._located.tensor.dtype

    def __getitem__(self, index: Any) -> Any:
        """Return the part at ``index``, which is anything that the array itself would take.

        Raises:
            IndexError: it lies outside.
            IntegrityError: a block that is needed is damaged.
        """
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) and index else (index, ())
        rows = self._rows(first)
        if rows is None:
            return self._reader.get_tensor(self._name)[index]
        start, stop, within = rows
        return self._read_rows(start, stop)[(within, *rest)]

    def _rows(self, index: Any) -> tuple[int, int, Any] | None:
        """Return which rows ``index`` needs and what it is among them; None where all are needed."""
        tensor = self._located.tensor
        if tensor.view is not None or not tensor.shape or not is_number(tensor.dtype):
            return None
        count = tensor.shape[0]
        if isinstance(index, int) and not isinstance(index, bool):
            if not -count <= index < count:
                raise IndexError(f"row {index} of {self._name!r}, which has {count}")
            return index % count, index % count + 1, 0
        if not isinstance(index, slice) or (index.step or 1) < 0:
            return None
        start, stop, step = index.indices(count)
        return start, max(start, stop), slice(None, None, step)

    def _read_rows(self, start: int, stop: int) -> Any:
        tensor, span = self._located.tensor, self._located.span
        check_fit(tensor, span.size)
        row = span.size // tensor.shape[0] if tensor.shape[0] else 0
        data = bytearray(self._store.blobs.read_range(span.blob, start * row, stop * row))
        shape = (stop - start, *tensor.shape[1:])
        part = Tensor(tensor.name, tensor.dtype, shape)
        return self._arrays.shaped(self._arrays.flat(data, tensor.dtype), part)
