"""Files of torch.save, written by hand: which spans they make, and that nothing runs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from modelstore.formats.base import Span, Split, Tensor, View
from modelstore.formats.split import split
from tests.builders import (
    MemorySource,
    Values,
    gguf_bytes,
    pickle_bytes,
    pickled,
    pickled_call,
    pickled_global,
    pickled_tensor,
    safetensors_bytes,
    torch_bytes,
    torch_with_pickle,
    values,
)

WEIGHT = bytes(range(24))


def split_pickle(value: object, *storages: bytes, order: bytes = b"little") -> Split:
    """Return the split of a torch file with a pickle of ``value``."""
    return split(MemorySource(torch_with_pickle(pickle_bytes(value), storages, order=order)))


def tensor_spans(result: Split) -> list[Span]:
    """Return the spans that hold tensors."""
    return [span for span in result.spans if span.tensors]


def names_in(result: Split) -> list[str]:
    """Return the names of all tensors, in order."""
    return [tensor.name for span in result.spans for tensor in span.tensors]


# --- names


def test_names_are_the_keys_on_the_way() -> None:
    """Keys of dicts, indices of lists and tuples are joined by dots."""
    one = pickled_tensor("0", "F32", 2, (2,))
    two = pickled_tensor("1", "F32", 2, (2,))
    three = pickled_tensor("2", "F32", 2, (2,))
    value = {
        "model": {"a.w": one},
        "epoch": 3,
        "optimizer": {"state": {0: [None, two]}},
        "t": (three,),
    }
    result = split_pickle(value, bytes(8), bytes(8), bytes(8))
    assert names_in(result) == ["model.a.w", "optimizer.state.0.1", "t.0"]
    assert result.warning == ""


def test_a_bare_tensor_has_no_name() -> None:
    """A file that is one tensor and no dict holds a tensor without a name."""
    assert names_in(split_pickle(pickled_tensor("0", "F32", 6, (2, 3)), WEIGHT)) == [""]


def test_parameters_are_their_tensors() -> None:
    """A parameter is found as the tensor it wraps."""
    parameter = pickled_call(
        "torch._utils", "_rebuild_parameter", pickled_tensor("0", "F32", 6, (2, 3)), True, {}
    )
    assert names_in(split_pickle({"w": parameter}, WEIGHT)) == ["w"]


def test_the_state_of_unknown_instances_is_searched() -> None:
    """A whole pickled module gives its tensors, although its class is never looked up."""
    tensor = pickled_tensor("0", "F32", 6, (2, 3))
    module = pickled_call("evil.module", "Net") + pickled({"_parameters": {"w": tensor}}) + b"b"
    assert names_in(split_pickle({"model": module}, WEIGHT)) == ["model._parameters.w"]


def test_the_last_of_equal_names_counts() -> None:
    """Where a key is set twice the later tensor has the name, and the other is a literal."""
    first, second = (pickled_tensor(key, "F32", 6, (6,)) for key in "01")
    pickle = b"\x80\x02}(" + pickled("w") + first + pickled("w") + second + b"u."
    result = split(MemorySource(torch_with_pickle(pickle, [WEIGHT, WEIGHT[::-1]])))
    (span,) = tensor_spans(result)
    assert span.start > result.spans[1].start


@pytest.mark.parametrize("key", ["a\0b", "x" * 600])
def test_impossible_names_leave_a_literal(key: str) -> None:
    """A tensor whose name cannot be one is not found; its bytes are kept as literals."""
    result = split_pickle({key: pickled_tensor("0", "F32", 6, (6,))}, WEIGHT)
    assert (result.format, names_in(result)) == ("torch", [])


# --- storages


def test_tied_tensors_share_a_span() -> None:
    """Names for the same bytes are tensors of one span, also with another shape."""
    one = pickled_tensor("0", "F32", 6, (2, 3))
    flat = pickled_tensor("0", "F32", 6, (6,))
    (span,) = tensor_spans(split_pickle({"a": one, "b": one, "c": flat}, WEIGHT))
    assert span.tensors == (
        Tensor("a", "F32", (2, 3)), Tensor("b", "F32", (2, 3)), Tensor("c", "F32", (6,)),
    )  # fmt: skip


def test_tensors_side_by_side_get_a_span_each() -> None:
    """Disjoint tensors of one storage are spans of their own, with literals in the gaps."""
    one = pickled_tensor("0", "F32", 6, (2,))
    two = pickled_tensor("0", "F32", 6, (1, 2), offset=3)
    first, second = tensor_spans(split_pickle({"a": one, "b": two}, WEIGHT))
    assert (first.stop - first.start, second.start - first.stop) == (8, 4)
    assert all(tensor.view is None for span in (first, second) for tensor in span.tensors)


def test_a_strided_tensor_is_a_view_of_its_storage() -> None:
    """A transposed or sliced tensor keeps the storage whole, and says how it lies in it."""
    whole = pickled_tensor("0", "F32", 6, (2, 3))
    turned = pickled_tensor("0", "F32", 6, (3, 2), (1, 3))
    row = pickled_tensor("0", "F32", 6, (3,), offset=3)
    (span,) = tensor_spans(split_pickle({"a": whole, "b": turned, "c": row}, WEIGHT))
    assert (span.dtype, span.stop - span.start) == ("F32", 24)
    assert [tensor.view for tensor in span.tensors] == [None, View(0, (1, 3)), View(3, (1,))]


def test_strides_of_single_rows_do_not_matter() -> None:
    """The stride of a dimension of one is arbitrary, so it makes no view."""
    (span,) = tensor_spans(
        split_pickle({"a": pickled_tensor("0", "F32", 6, (1, 6), (99, 1))}, WEIGHT)
    )
    assert span.tensors[0].view is None


def test_expanded_tensors_are_views() -> None:
    """A tensor that repeats one value by a stride of zero is a view of it."""
    (span,) = tensor_spans(
        split_pickle({"a": pickled_tensor("0", "F32", 1, (9,), (0,))}, WEIGHT[:4])
    )
    assert span.tensors[0] == Tensor("a", "F32", (9,), View(0, (0,)))


def test_empty_tensors_are_spans_without_bytes() -> None:
    """A tensor of no values is listed, at the place of its storage."""
    result = split_pickle({"a": pickled_tensor("0", "F32", 0, (0, 3))}, b"")
    (span,) = tensor_spans(result)
    assert (span.start, span.tensors) == (span.stop, (Tensor("a", "F32", (0, 3)),))


def test_untyped_storages_take_the_dtype_of_the_tensor() -> None:
    """An untyped storage with bytes to spare, under a view, is read as bytes."""
    strided = pickled_tensor("0", "U16", 3, (2,), (2,)).replace(
        pickled(6), pickled(7), 1
    )  # the size of the storage in bytes
    (span,) = tensor_spans(split_pickle({"a": strided}, WEIGHT[:7]))
    assert (span.dtype, span.tensors[0].dtype) == ("U8", "U16")


def test_big_endian_storages_are_literal() -> None:
    """The storages of a big-endian file are literal spans, each on its own."""
    tensors = {"a": pickled_tensor("0", "F32", 6, (6,)), "b": pickled_tensor("1", "F32", 6, (6,))}
    result = split_pickle(tensors, WEIGHT, WEIGHT, order=b"big")
    assert (result.format, tensor_spans(result), result.warning) == ("torch", [], "")
    assert sum(span.stop - span.start == 24 for span in result.spans) == 2


def test_pending_conjugation_leaves_a_literal() -> None:
    """Where the values are not the bytes of the storage no tensor is listed."""
    tensor = pickled_tensor("0", "C64", 3, (3,))
    conjugated = tensor[:-2] + pickled({"conj": True}) + b"tR"
    result = split_pickle({"a": conjugated}, WEIGHT)
    assert (result.format, names_in(result)) == ("torch", [])


def test_every_format_gives_the_same_spans() -> None:
    """The same weights as .bin, safetensors and shards have the same spans, byte for byte."""
    tensors = {"a": values("BF16", 3, 5), "b": values("F32"), "c": values("F8_E4M3", 7)}
    shards = [{"c": tensors["c"]}, {"b": tensors["b"], "a": tensors["a"]}]
    contents = [torch_bytes(tensors), safetensors_bytes(tensors), *map(safetensors_bytes, shards)]
    contents += [gguf_bytes({"a": tensors["a"]})]
    found = [
        {
            (span.dtype, span.tensors, content[span.start : span.stop])
            for span in split(MemorySource(content)).spans
            if span.tensors
        }
        for content in contents
    ]
    assert found[0] == found[1] == found[2] | found[3]
    assert found[4] < found[0]


# --- nothing runs


def test_a_hostile_pickle_is_split_without_running_it(tmp_path: Path) -> None:
    """A call that would create a file is noted, not made; the tensors beside it are found."""
    canary = tmp_path / "canary"
    calls = {
        "open": pickled_call("builtins", "open", str(canary), "w"),
        "system": pickled_call("os", "system", f"touch {canary}"),
        "new": pickled_global("os", "system") + pickled((f"touch {canary}",)) + b"\x81",
        "w": pickled_tensor("0", "F32", 6, (2, 3)),
    }
    result = split_pickle(calls, WEIGHT)
    assert (names_in(result), result.warning, canary.exists()) == (["w"], "", False)


def test_globals_of_the_same_name_elsewhere_rebuild_nothing() -> None:
    """Only torch's own function makes a tensor, not one of that name in another module."""
    tensor = pickled_tensor("0", "F32", 6, (6,)).replace(b"torch._utils", b"torch._futile")
    assert names_in(split_pickle({"w": tensor}, WEIGHT)) == []


# --- lies


LYING_TENSORS = {
    "behind its storage": pickled_tensor("0", "F32", 6, (7,)),
    "an offset behind it": pickled_tensor("0", "F32", 6, (1,), offset=6),
    "a huge offset": pickled_tensor("0", "F32", 6, (0,), offset=2**62),
    "strides behind it": pickled_tensor("0", "F32", 6, (2, 2), (1, 5)),
    "a huge shape": pickled_tensor("0", "F32", 6, (2**40, 2**40), (0, 0)),
    "a storage that is smaller": pickled_tensor("0", "F32", 7, (6,)),
    "a storage that is larger": pickled_tensor("0", "F32", 5, (5,)),
    "a storage of 2^62": pickled_tensor("0", "F32", 2**62, (2,)),
    "a storage that is missing": pickled_tensor("9", "F32", 6, (6,)),
    "a storage elsewhere": pickled_tensor("../version", "F32", 6, (6,)),
}


@pytest.mark.parametrize("tensor", LYING_TENSORS.values(), ids=LYING_TENSORS.keys())
def test_tensors_that_lie_make_the_file_opaque(tensor: bytes) -> None:
    """A pickle that claims what its storages do not hold is reported, and the file is opaque."""
    result = split_pickle({"w": tensor}, WEIGHT)
    assert (result.format, len(result.spans)) == ("opaque", 1)
    assert "'file' is no valid torch file: " in result.warning


def test_other_zip_files_are_opaque_without_a_warning() -> None:
    """An archive that torch would not have written claims nothing, so nothing is reported."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes/readme.txt", "x" * 100)
    result = split(MemorySource(memory.getvalue(), "notes.bin"))
    assert (result.format, result.warning) == ("opaque", "")


def test_legacy_pickles_are_opaque_without_a_warning() -> None:
    """A file from before torch 1.6 is a bare pickle, which claims no format that we read."""
    content = pickle_bytes(["legacy"])
    assert split(MemorySource(content, "pytorch_model.bin")) == Split(
        "opaque", (Span(0, len(content)),)
    )


def test_values_are_where_the_tensors_say() -> None:
    """The bytes of a span are those of the storage, in every dtype that torch has."""
    tensors = {dtype: values(dtype, 3, seed=i) for i, dtype in enumerate(["F64", "BF16", "U32"])}
    content = torch_bytes(tensors)
    found = {
        span.tensors[0].name: Values(span.dtype, (3,), content[span.start : span.stop])
        for span in tensor_spans(split(MemorySource(content)))
    }
    assert found == tensors
