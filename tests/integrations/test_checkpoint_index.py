"""torch's description of a checkpoint becomes JSON and comes back as it was."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import IntegrityError, NewerFormatError, UsageError

torch = pytest.importorskip("torch")

from torch.distributed.checkpoint.metadata import (  # noqa: E402
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from modelstore.integrations.checkpoint_index import SCHEMA, Place, decode, encode  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float8_e4m3fn]
LAYOUTS = [torch.contiguous_format, torch.preserve_format, torch.channels_last]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
COUNTS = st.integers(0, 2**40)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False)
    | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(TEXTS | st.integers(-9, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def _tensors(draw: Any) -> TensorStorageMetadata:
    rank = draw(st.integers(0, 3))
    sizes = st.lists(COUNTS, min_size=rank, max_size=rank).map(torch.Size)
    offsets = draw(st.lists(sizes, max_size=3, unique=True))
    properties = TensorProperties(
        dtype=draw(st.sampled_from(DTYPES)),
        requires_grad=draw(st.booleans()),
        memory_format=draw(st.sampled_from(LAYOUTS)),
        pin_memory=draw(st.booleans()),
    )
    chunks = [ChunkStorageMetadata(offset, draw(sizes)) for offset in offsets]
    return TensorStorageMetadata(properties, draw(sizes), chunks)


def _places(items: dict[str, Any], draw: Any) -> dict[MetadataIndex, Place]:
    places = {}
    for name, item in items.items():
        if isinstance(item, BytesStorageMetadata):
            start, length = draw(COUNTS), draw(COUNTS)
            places[MetadataIndex(name)] = Place(draw(TEXTS), "", start, start + length)
        else:
            for chunk in item.chunks:
                places[MetadataIndex(name, chunk.offsets)] = Place(draw(TEXTS), draw(TEXTS))
    return places


@given(st.data())
def test_what_was_described_comes_back(data: st.DataObject) -> None:
    """Items, chunks, the planner's data and every place are equal after a round trip."""
    kinds = _tensors() | st.just(BytesStorageMetadata())
    items = data.draw(st.dictionaries(TEXTS, kinds, max_size=4))
    before = Metadata(items, planner_data=data.draw(PLAIN), version=data.draw(TEXTS) or None)
    places = _places(items, data.draw)
    encoded = encode(before, places)
    after, found = decode(encoded)
    assert (found, after.storage_data) == (places, places)
    assert after.planner_data == before.planner_data
    assert repr(after.planner_data) == repr(before.planner_data)  # tells True from 1
    assert after.version == before.version
    # an empty item says nothing of what it is, so equality alone would not tell
    assert {n: repr(i) for n, i in after.state_dict_metadata.items()} == {
        n: repr(i) for n, i in items.items()
    }
    assert encode(after, found) == encoded


@given(PLAIN)
def test_no_json_is_taken_for_an_index(value: object) -> None:
    """Whatever the fields hold, the answer is an index or an IntegrityError."""
    try:
        data = json.dumps({"schema": SCHEMA, "version": value, "planner": value, "items": value})
    except TypeError:  # keys that are no text
        return
    with suppress(IntegrityError):
        decode(data.encode())


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"schema": "mstore/dcp/2"}, NewerFormatError),
        ({"schema": "mstore/manifest/1"}, IntegrityError),
        ({"planner": {"pickle": "x"}}, IntegrityError),
        ({"items": {"w": {"file": "f", "start": -1, "stop": 2}}}, IntegrityError),
        ({"items": {"w": {"chunks": [], "dtype": "load", "shape": []}}}, IntegrityError),
        ({"items": []}, IntegrityError),
    ],
)
def test_a_strange_index_is_refused(changed: dict[str, Any], kind: type[Exception]) -> None:
    """What is not as the format says is an error that says so, and nothing is called."""
    value = {"schema": SCHEMA, "version": "", "planner": {"none": 0}, "items": {}}
    decode(json.dumps(value).encode())
    with pytest.raises(kind):
        decode(json.dumps({**value, **changed}).encode())


def test_what_cannot_be_written_is_refused() -> None:
    """A planner's odd data, an item without a place and a name that is no text are errors."""
    tensor = TensorStorageMetadata(
        TensorProperties(),
        torch.Size([1]),
        [ChunkStorageMetadata(torch.Size([0]), torch.Size([1]))],
    )
    with pytest.raises(UsageError, match="no plain data"):
        encode(Metadata({}, planner_data=object()), {})
    with pytest.raises(UsageError, match="no rank wrote 'w'"):
        encode(Metadata({"w": tensor}), {})
    with pytest.raises(UsageError, match="which is no text"):
        encode(Metadata({7: tensor}), {})
