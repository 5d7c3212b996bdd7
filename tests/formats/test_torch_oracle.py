"""Files that torch itself wrote: every tensor is found where torch reads it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import pytest

from modelstore.formats.base import Split, Tensor
from modelstore.formats.split import split
from tests.builders import MemorySource

torch = pytest.importorskip("torch")

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "C128": torch.complex128,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}


def saved(value: object, **options: object) -> bytes:
    """Return what torch.save writes."""
    memory = io.BytesIO()
    torch.save(value, memory, **options)
    return memory.getvalue()


def split_of(content: bytes) -> Split:
    """Return the split, which must be one into tensors."""
    result = split(MemorySource(content, "pytorch_model.bin"))
    assert (result.format, result.warning) == ("torch", "")
    return result


def bytes_of(tensor: torch.Tensor) -> bytes:
    """Return the values of a tensor in row-major order."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_found(content: bytes, expected: Mapping[str, torch.Tensor]) -> Split:
    """Assert that the file splits into exactly these tensors, whatever their layout."""
    result = split_of(content)
    found = {
        tensor.name: (tensor.dtype, tensor.shape, read(tensor, content[span.start : span.stop]))
        for span in result.spans
        for tensor in span.tensors
    }
    names = {dtype: name for name, dtype in DTYPES.items()}
    assert found == {
        name: (names[tensor.dtype], tuple(tensor.shape), bytes_of(tensor))
        for name, tensor in expected.items()
    }
    return result


def read(tensor: Tensor, data: bytes) -> bytes:
    """Return the values of a tensor in row-major order, gathered from its span."""
    if tensor.view is None:
        return data
    whole = torch.frombuffer(bytearray(data), dtype=DTYPES[tensor.dtype])
    return bytes_of(whole.as_strided(tensor.shape, tensor.view.strides, tensor.view.offset))


def noise(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Return a tensor of random bits."""
    size = math.prod(shape) * dtype.itemsize
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8)
    return raw.view(dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
def test_every_dtype_and_shape_is_found(dtype: torch.dtype) -> None:
    """Matrices, vectors of odd length, scalars and empty tensors of each dtype."""
    shapes = {"matrix": (3, 5), "odd": (7,), "scalar": (), "empty": (0, 3)}
    weights = {name: noise(dtype, *shape) for name, shape in shapes.items()}
    assert_found(saved(weights), weights)


def test_tied_weights_and_views_are_found() -> None:
    """Tied names share a span; transposed, sliced and expanded tensors are views."""
    weight = torch.randn(4, 6).bfloat16()
    flat = torch.randn(20)
    weights = {
        "embed": weight,
        "lm_head": weight,
        "turned": flat[:8].view(2, 4).t(),
        "slice": flat[2:9:3],
        "expanded": torch.ones(1).expand(5),
        "bias": torch.nn.Parameter(torch.zeros(3)),
    }
    result = assert_found(saved(weights), weights)
    tied = [span for span in result.spans if len(span.tensors) == 2 and not span.tensors[0].view]
    assert [tensor.name for tensor in tied[0].tensors] == ["embed", "lm_head"]


def test_parts_of_a_fused_tensor_get_a_span_each() -> None:
    """Disjoint rows of one storage are spans of their own, without views."""
    fused = torch.randn(6, 4)
    weights = {"q": fused[:2], "k": fused[2:4], "v": fused[5:]}
    result = assert_found(saved(weights), weights)
    assert all(tensor.view is None for span in result.spans for tensor in span.tensors)
    assert sum(bool(span.tensors) for span in result.spans) == 3


def test_a_nested_checkpoint_is_found() -> None:
    """A training checkpoint gives its model and its optimizer state by their paths."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = saved({"model": model.state_dict(), "epoch": 3, "optimizer": optimizer.state_dict()})
    state = optimizer.state_dict()["state"]
    expected = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for i, moments in state.items():
        expected |= {f"optimizer.state.{i}.{name}": tensor for name, tensor in moments.items()}
    assert_found(content, expected)


def test_a_whole_module_is_found() -> None:
    """A pickled module, which torch would refuse to load safely, gives its tensors."""
    content = saved(torch.nn.Linear(3, 2))
    names = {tensor.name for span in split_of(content).spans for tensor in span.tensors}
    assert names == {"_parameters.weight", "_parameters.bias"}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(protocol: int) -> None:
    """torch.save can be told which pickle protocol to use."""
    weights = {"w": torch.randn(3, 2), "b": torch.zeros(2).bfloat16()}
    assert_found(saved(weights, pickle_protocol=protocol), weights)


def test_the_old_format_is_opaque() -> None:
    """Files from before torch 1.6 are bare pickles and stay opaque, without a warning."""
    content = saved({"w": torch.zeros(3)}, _use_new_zipfile_serialization=False)
    result = split(MemorySource(content, "pytorch_model.bin"))
    assert (result.format, result.warning) == ("opaque", "")


def test_conjugated_and_sparse_tensors_do_no_harm() -> None:
    """What is no plain tensor is kept as literals, or as the plain tensors it is made of."""
    weights = {
        "conjugated": torch.zeros(3, dtype=torch.complex64).conj(),
        "sparse": torch.eye(3).to_sparse(),
        "plain": torch.ones(3),
    }
    names = {tensor.name for span in split_of(saved(weights)).spans for tensor in span.tensors}
    assert "plain" in names
    assert "conjugated" not in names


def test_safetensors_gives_the_same_spans() -> None:
    """The same weights from torch.save and from safetensors are the same spans."""
    save = pytest.importorskip("safetensors.torch").save
    weights = {"a": noise(torch.bfloat16, 5, 3), "b": noise(torch.float8_e4m3fn, 7)}
    found = [
        {
            (span.dtype, span.tensors, content[span.start : span.stop])
            for span in split(MemorySource(content)).spans
            if span.tensors
        }
        for content in (saved(weights), save(weights))
    ]
    assert found[0] == found[1]
