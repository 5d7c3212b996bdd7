"""Hypothesis strategies: tensors of every kind, files that hold them, and damage to those files."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from tests.builders import (
    BITS,
    GGUF_TYPES,
    TORCH_DTYPES,
    Values,
    gguf_bytes,
    safetensors_bytes,
    torch_bytes,
)

File = tuple[bytes, dict[str, Values]]
"""A file and the tensors in it."""

shapes = st.one_of(
    st.just(()),
    st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple),
    st.sampled_from([(7,), (31,), (0,), (1, 1), (0, 3)]),
)
"""0-d, empty, odd and ordinary ones."""

names = st.one_of(
    st.sampled_from(["w", "model.layers.0.mlp.up_proj.weight", "lm_head.weight", "é中😀", "a b"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
)
"""Names of tensors as far as every format has them."""


@st.composite
def tensors(draw: st.DrawFn, dtypes: tuple[str, ...]) -> Values:
    """One tensor of one of the dtypes; sub-byte ones fill whole bytes."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(shapes)
    if BITS[dtype] % 8:
        shape = (*shape, 4)
    size = math.prod(shape) * BITS[dtype] // 8
    return Values(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


@st.composite
def gguf_tensors(draw: st.DrawFn) -> Values:
    """One tensor of a plain or a quantised type, in whole blocks."""
    dtype = draw(st.sampled_from(tuple(GGUF_TYPES)))
    _, block, width = GGUF_TYPES[dtype]
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    size = math.prod(shape) * width
    shape[-1] *= block
    return Values(dtype, tuple(shape), draw(st.binary(min_size=size, max_size=size)))


def _files_of(one: st.SearchStrategy[Values]) -> st.SearchStrategy[dict[str, Values]]:
    return st.dictionaries(names, one, max_size=4)


_SAFETENSORS = tuple(dtype for dtype in BITS if dtype != "C128")

safetensors_files: st.SearchStrategy[File] = st.tuples(
    _files_of(tensors(_SAFETENSORS)),
    st.none() | st.dictionaries(names, names, max_size=2),
).map(lambda drawn: (safetensors_bytes(*drawn), drawn[0]))

torch_files: st.SearchStrategy[File] = _files_of(tensors(TORCH_DTYPES)).map(
    lambda drawn: (torch_bytes(drawn), drawn)
)

gguf_files: st.SearchStrategy[File] = st.tuples(
    _files_of(gguf_tensors()), st.sampled_from([2, 3]), st.sampled_from([1, 32, 64])
).map(lambda drawn: (gguf_bytes(drawn[0], version=drawn[1], alignment=drawn[2]), drawn[0]))

_LIES = [b"\xff" * 8, b"\0" * 8, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x80", b"}", b"99999999999"]


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` cut, flipped, overwritten with lies, or with a piece taken out or doubled."""
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    other = draw(st.integers(at, len(data)))
    kind = draw(st.sampled_from(["cut", "flip", "lie", "remove", "double", "append"]))
    if kind == "cut":
        return data[:at]
    if kind == "flip" and data:
        flipped = bytes([data[at] ^ (1 << draw(st.integers(0, 7)))])
        return data[:at] + flipped + data[at + 1 :]
    if kind == "lie":
        lie = draw(st.sampled_from(_LIES))
        return data[:at] + lie + data[at + len(lie) :]
    if kind == "remove":
        return data[:at] + data[other:]
    if kind == "double":
        return data[:other] + data[at:]
    return data + draw(st.binary(min_size=1, max_size=40))
