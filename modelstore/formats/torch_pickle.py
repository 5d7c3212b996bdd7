"""The tensors that a pickle of torch.save describes, found without unpickling it.

The pickle is run on symbols by `modelstore.formats.pickle_machine`; here are the few calls that are
understood, those by which torch rebuilds tensors (torch/_utils.py, `_rebuild_tensor_v2` and its kin),
and the names that tensors get: the keys on the way to them, joined by dots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

from modelstore.formats.base import MalformedError
from modelstore.formats.pickle_machine import Box, Global, run_pickle
from modelstore.formats.rules import MAX_COUNT, MAX_RANK

MAX_PICKLE = 64 << 20
"""Bytes of a pickle that is read at all; a tensor takes some 150 to describe."""

MAX_NAMES = 200_000
MAX_NAME = 512
"""Characters of a name; what lies deeper stays unnamed."""

_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexDoubleStorage": "C128",
    "ComplexFloatStorage": "C64",
}
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex128": "C128",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
}


@dataclass(frozen=True, slots=True)
class Storage:
    """A record of the file that holds the bytes of tensors.

    Attributes:
        key: the record is ``data/<key>``.
        dtype: the name of a `modelstore.numeric.DType`, "" if the storage is untyped.
        size: in values of that dtype, in bytes if untyped.
    """

    key: str
    dtype: str
    size: int


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A tensor as described; offset and strides in values. Nothing of it is proved yet."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Described:
    """What a pickle describes: every storage, and the tensors by name."""

    storages: tuple[Storage, ...]
    tensors: dict[str, PickledTensor]


def read_tensors(pickle: bytes) -> Described:
    """Return what the pickle describes.

    Where a name occurs more than once the last one counts, as in a dict.

    Raises:
        MalformedError: it is no pickle, or far larger than any that describes a model.
    """
    storages: list[Storage] = []

    def load(identifier: object) -> object:
        storage = _storage(identifier)
        if storage is None:
            return Box(identifier)
        storages.append(storage)
        return storage

    root = run_pickle(pickle, _rebuilt, load)
    tensors: dict[str, PickledTensor] = {}
    for name, tensor in _named(root):
        tensors[name] = tensor
        if len(tensors) > MAX_NAMES:
            raise MalformedError(f"its pickle describes more than {MAX_NAMES} tensors")
    return Described(tuple(storages), tensors)


# --- names


def _named(root: object) -> Iterator[tuple[str, PickledTensor]]:
    """Yield the tensors under ``root``; a container that is shared counts where it is first.

    A level of the walk is an iterator, so memory grows with the depth alone.
    """
    seen: set[int] = set()
    levels = [iter([("", root)])]
    while levels:
        for path, value in levels[-1]:
            if isinstance(value, PickledTensor):
                yield path, value
            elif id(value) not in seen:
                seen.add(id(value))
                levels.append(_children(path, value))
                break
        else:
            levels.pop()


def _children(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Box):
        pairs: Iterator[tuple[object, object]] = iter(value.items)
    elif isinstance(value, tuple):
        pairs = iter(enumerate(value))
    else:
        return
    for key, child in pairs:
        name = _joined(path, key)
        if name is not None and isinstance(child, (Box, tuple, PickledTensor)):
            yield name, child


def _joined(path: str, key: object) -> str | None:
    """Return the name of what lies under ``key``, None if it can have none."""
    if key is None:
        return path
    if isinstance(key, int) and abs(key) <= MAX_COUNT:
        key = str(int(key))
    if not isinstance(key, str) or len(path) + len(key) >= MAX_NAME or "\0" in key:
        return None
    try:
        key.encode()
    except UnicodeEncodeError:
        return None
    return f"{path}.{key}" if path else key


# --- calls that rebuild tensors


def _storage(identifier: object) -> Storage | None:
    """Return the storage of ``("storage", type, key, location, size, ...)``."""
    if not isinstance(identifier, tuple) or len(identifier) < 5 or identifier[0] != "storage":
        return None
    kind, key, size = identifier[1], identifier[2], identifier[4]
    if not (isinstance(kind, Global) and isinstance(key, str) and _is_count(size)):
        return None
    if (kind.module, kind.name) == ("torch.storage", "UntypedStorage"):
        return Storage(key, "", size)
    if kind.module in ("torch", "torch.cuda") and kind.name in _STORAGES:
        return Storage(key, _STORAGES[kind.name], size)
    return None


def _rebuilt(function: Global, arguments: tuple[object, ...]) -> object:
    """Return the tensor that the call rebuilds, or a box with its arguments."""
    rebuild = _REBUILD.get((function.module, function.name))
    if rebuild is None:
        return Box(arguments)
    try:
        return rebuild(arguments) or Box(arguments)
    except IndexError:
        return Box(arguments)


def _from_storage(arguments: tuple[object, ...]) -> object:
    """``(storage, offset, shape, strides[, requires_grad, hooks, metadata])``."""
    storage = arguments[0]
    dtype = storage.dtype if isinstance(storage, Storage) else ""
    return _tensor(arguments[:4], dtype, arguments[6:7])


def _from_untyped(arguments: tuple[object, ...]) -> object:
    """``(storage, offset, shape, strides, requires_grad, hooks, dtype[, metadata])``."""
    dtype = arguments[6]
    if not isinstance(dtype, Global) or dtype.module != "torch":
        return None
    return _tensor(arguments[:4], _DTYPES.get(dtype.name, ""), arguments[7:8])


def _from_tensor(arguments: tuple[object, ...]) -> object:
    """``(tensor, requires_grad, hooks[, state])``: a parameter."""
    return arguments[0]


_REBUILD: dict[tuple[str, str], Callable[[tuple[object, ...]], object]] = {
    ("torch._utils", "_rebuild_tensor"): _from_storage,
    ("torch._utils", "_rebuild_tensor_v2"): _from_storage,
    ("torch._utils", "_rebuild_tensor_v3"): _from_untyped,
    ("torch._utils", "_rebuild_parameter"): _from_tensor,
    ("torch._utils", "_rebuild_parameter_with_state"): _from_tensor,
}


def _tensor(
    layout: tuple[object, ...], dtype: str, metadata: tuple[object, ...]
) -> PickledTensor | None:
    """Return the tensor; None if it is unknown, or its values are not the bytes of its storage.

    The latter is so with a pending conjugation or negation, which the metadata tells.
    """
    storage, offset, shape, strides = layout
    if not isinstance(storage, Storage) or not dtype or not _is_count(offset):
        return None
    if any(isinstance(extra, Box) and extra.items for extra in metadata):
        return None
    if not (_is_counts(shape) and _is_counts(strides) and len(shape) == len(strides)):
        return None
    return PickledTensor(storage, dtype, offset, shape, strides)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_counts(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and len(value) <= MAX_RANK and all(map(_is_count, value))
