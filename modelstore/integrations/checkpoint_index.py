"""The index of a distributed checkpoint: torch's metadata as JSON, never as a pickle.

`torch.distributed.checkpoint` describes a checkpoint by a `Metadata`: for each item of the state
its dtype, shape and chunks, or that it is bytes; and the planner's own data, which says where items
lie in nested dictionaries. `FileSystemWriter` pickles that. Here it is a file of a version,
`dcp.json`, in canonical JSON, beside the files that hold the chunks:

    {"schema": "mstore/dcp/1", "version": text, "planner": value, "items": {name: item}}

An item of bytes is {"file", "start", "stop"}: a range of a file of the version. A tensor is
{"dtype", "shape", "layout", "memory_format", "requires_grad", "pin_memory", "chunks"}, spelt as
torch does and flags as 0 or 1; a chunk is {"offsets", "sizes", "file", "tensor"}: the name of a
tensor in a file of the version.
A value of the planner is an integer, a string, or an object of one key that says what else it is:
"list" and "tuple" (of values), "map" (of pairs of values), "flag" (0 or 1), "float" (hexadecimal),
"none" (0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from modelstore.canonical import canonical, parse_mapping
from modelstore.errors import IntegrityError, NewerFormatError, UsageError

INDEX = "dcp.json"
"""The file of a version that makes it a distributed checkpoint."""

SCHEMA = "mstore/dcp/1"

_FAMILY = SCHEMA.rpartition("/")[0] + "/"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the content of an item, or of one chunk of it, lies in a version.

    Attributes:
        file: the path of the file.
        tensor: the name of the tensor in it; "" for bytes.
        start, stop: the range of the bytes in it; 0 for a tensor.
    """

    file: str
    tensor: str = ""
    start: int = 0
    stop: int = 0


Places = Mapping[MetadataIndex, Place]


def encode(metadata: Metadata, places: Places) -> bytes:
    """Return the index of what ``metadata`` describes, each of whose chunks lies at its place.

    Raises:
        UsageError: something in it cannot be written down, or a chunk was not written by any rank.
    """
    items = {
        _name(name): _item_value(name, item, places)
        for name, item in metadata.state_dict_metadata.items()
    }
    return canonical(
        {
            "schema": SCHEMA,
            "version": metadata.version or "",
            "planner": _value(metadata.planner_data),
            "items": items,
        }
    )


def decode(data: bytes, what: str = INDEX) -> tuple[Metadata, dict[MetadataIndex, Place]]:
    """Return what ``data`` describes, and where each chunk lies.

    Raises:
        IntegrityError: it is not such an index.
        NewerFormatError: its schema is not one that this mstore knows.
    """
    value = parse_mapping(data, what)
    schema = value.get("schema")
    if schema != SCHEMA:
        if isinstance(schema, str) and schema.startswith(_FAMILY):
            raise NewerFormatError(f"{what} has schema {schema!r}", "pip install -U mstore")
        raise IntegrityError(f"{what} is not the index of a distributed checkpoint")
    places: dict[MetadataIndex, Place] = {}
    try:
        items = {name: _item(name, item, places) for name, item in value["items"].items()}
        planner, version = _from_value(value["planner"]), _text(value["version"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{what} is malformed: {str(error)[:400]}") from error
    metadata = Metadata(items, planner_data=planner, storage_data=places, version=version or None)
    return metadata, places


# --- items


def _item_value(name: str, item: object, places: Places) -> dict[str, object]:
    if isinstance(item, BytesStorageMetadata):
        place = _place(places, MetadataIndex(name))
        return {"file": place.file, "start": place.start, "stop": place.stop}
    if not isinstance(item, TensorStorageMetadata):
        raise UsageError(
            f"{name!r} is described by a {type(item).__name__}, which mstore knows not"
        )
    properties = item.properties
    return {
        "dtype": _torch_name(properties.dtype),
        "shape": list(item.size),
        "layout": _torch_name(properties.layout),
        "memory_format": _torch_name(properties.memory_format),
        "requires_grad": int(properties.requires_grad),
        "pin_memory": int(properties.pin_memory),
        "chunks": [_chunk_value(name, chunk, places) for chunk in item.chunks],
    }


def _chunk_value(name: str, chunk: ChunkStorageMetadata, places: Places) -> dict[str, object]:
    place = _place(places, MetadataIndex(name, chunk.offsets))
    return {
        "offsets": list(chunk.offsets),
        "sizes": list(chunk.sizes),
        "file": place.file,
        "tensor": place.tensor,
    }


def _place(places: Places, index: MetadataIndex) -> Place:
    try:
        return places[index]
    except KeyError:
        raise UsageError(f"no rank wrote {index.fqn!r}, or one of its chunks") from None


def _item(name: str, value: Mapping[str, Any], places: dict[MetadataIndex, Place]) -> object:
    if "chunks" not in value:
        start, stop = _count(value["start"]), _count(value["stop"])
        places[MetadataIndex(name)] = Place(_text(value["file"]), "", start, stop)
        return BytesStorageMetadata()
    properties = TensorProperties(
        dtype=_of_torch(value["dtype"], torch.dtype),
        layout=_of_torch(value["layout"], torch.layout),
        requires_grad=_flag(value["requires_grad"]),
        memory_format=_of_torch(value["memory_format"], torch.memory_format),
        pin_memory=_flag(value["pin_memory"]),
    )
    chunks = [_chunk(name, chunk, places) for chunk in value["chunks"]]
    return TensorStorageMetadata(properties, _size(value["shape"]), chunks)


def _chunk(
    name: str, value: Mapping[str, Any], places: dict[MetadataIndex, Place]
) -> ChunkStorageMetadata:
    chunk = ChunkStorageMetadata(_size(value["offsets"]), _size(value["sizes"]))
    place = Place(_text(value["file"]), _text(value["tensor"]))
    places[MetadataIndex(name, chunk.offsets)] = place
    return chunk


# --- what torch has names for


def _torch_name(value: object) -> str:
    return str(value).removeprefix("torch.")


def _of_torch(name: object, kind: type) -> Any:
    """Return the dtype, layout or memory format of torch that is called ``name``."""
    found = getattr(torch, _text(name), None)
    if not isinstance(found, kind):
        raise TypeError(f"torch has no {kind.__name__} {name!r}")
    return found


# --- the planner's data


def _value(item: object) -> object:
    """Return plain data as JSON that tells a tuple from a list and a flag from a number."""
    if item is None:
        return {"none": 0}
    if isinstance(item, bool):
        return {"flag": int(item)}
    if isinstance(item, float):
        return {"float": item.hex()}
    if isinstance(item, str) or (isinstance(item, int) and abs(item) < 1 << 63):
        return item
    if isinstance(item, list | tuple):
        return {"list" if isinstance(item, list) else "tuple": [_value(one) for one in item]}
    if isinstance(item, Mapping):
        return {"map": [[_value(key), _value(one)] for key, one in item.items()]}
    raise UsageError(
        f"the planner hands over a {type(item).__name__}, which is no plain data",
        "save with DefaultSavePlanner, or a planner whose planner_data is plain",
    )


def _from_value(value: object) -> Any:
    if isinstance(value, int | str) and not isinstance(value, bool):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise TypeError(f"{value!r} is no value of a planner")
    ((kind, item),) = value.items()
    if kind == "none":
        return None
    if kind == "flag":
        return _flag(item)
    if kind == "float":
        return float.fromhex(_text(item))
    if kind == "map":
        return {_from_value(key): _from_value(one) for key, one in item}
    if kind not in ("list", "tuple"):
        raise ValueError(f"{kind!r} is no kind of value")
    found = [_from_value(one) for one in item]
    return found if kind == "list" else tuple(found)


# --- checked values


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise UsageError(f"the state has an item called {name!r}, which is no text")
    return name


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _size(value: object) -> torch.Size:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return torch.Size([_count(one) for one in value])


def _flag(value: object) -> bool:
    if _count(value) > 1:
        raise ValueError(f"{value!r} is neither 0 nor 1")
    return bool(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is not a size")
    return value
