"""Floats of one kind as floats of another: exact where it can be, else the nearest."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.codecs.convert import convert, is_convertible
from modelstore.numeric import DTYPES, DType, dtype_named
from tests.contracts.codec import special_values

NAMES = ("F8_E4M3", "F8_E5M2", "F16", "BF16", "F32", "F64")
KINDS = [dtype_named(name) for name in NAMES]
PAIRS = [(source, target) for source in KINDS for target in KINDS]
EXACT = [(a, b) for a, b in PAIRS if a.exponent <= b.exponent and a.mantissa <= b.mantissa]
CAST = [  # torch rounds twice from F64, and what it makes of numbers too large for F8_E4M3 changed
    (a, b) for a, b in PAIRS if (a.width < 8 or b.width > 2) and b.name != "F8_E4M3"
]


def bits(values: list[int], dtype: DType) -> np.ndarray:
    """Return ``values`` as an array of the width of ``dtype``."""
    return np.array(values, f"<u{dtype.width}")


def patterns(dtype: DType) -> st.SearchStrategy[int]:
    """Draw any bits, and often those at the edges of this kind of numbers and of the others."""
    edges = {value for kind in KINDS for value in special_values(kind)}
    near = [
        (int(convert(bits([edge], kind), kind, dtype)[0]) + step) % (1 << 8 * dtype.width)
        for kind in KINDS
        for edge in special_values(kind)
        for step in (-1, 0, 1)
    ]
    whole = st.integers(0, (1 << 8 * dtype.width) - 1)
    return st.sampled_from(sorted({*near, *(e for e in edges if e < 1 << 8 * dtype.width)})) | whole


# --- the same again as docs/format.md says it, in plain Python and fractions


def has_infinity(dtype: DType) -> bool:
    """Tell whether the largest exponent is kept for infinity and NaN."""
    return dtype.name != "F8_E4M3"


def largest(dtype: DType) -> int:
    """Return the magnitude of infinity, or of the largest number where there is none."""
    ones = ((1 << dtype.exponent) - 1) << dtype.mantissa
    return ones if has_infinity(dtype) else ones | ((1 << dtype.mantissa) - 2)


def value_of(magnitude: int, dtype: DType) -> Fraction:
    """Return the number that a magnitude means, infinity taken for the next power of two."""
    exponent, mantissa = divmod(magnitude, 1 << dtype.mantissa)
    if exponent:
        mantissa += 1 << dtype.mantissa
    scale = max(exponent, 1) - ((1 << (dtype.exponent - 1)) - 1) - dtype.mantissa
    return Fraction(mantissa) * Fraction(2) ** scale


def nearest(value: Fraction, dtype: DType) -> int:
    """Return the magnitude whose number is nearest to ``value``, the even one of two."""
    low, high = 0, largest(dtype)
    while low < high:  # the largest magnitude of a number not above value
        middle = (low + high + 1) // 2
        low, high = (middle, high) if value_of(middle, dtype) <= value else (low, middle - 1)
    if low == largest(dtype):
        return low
    below, above = value - value_of(low, dtype), value_of(low + 1, dtype) - value
    return low + (above < below or (above == below and low % 2))


def expected(pattern: int, source: DType, target: DType) -> int:
    """Return what one number becomes."""
    sign, magnitude = divmod(pattern, 1 << (8 * source.width - 1))
    sign <<= 8 * target.width - 1
    if magnitude > largest(source):  # NaN
        mantissa = (magnitude % (1 << source.mantissa)) << 64 >> source.mantissa
        mantissa = mantissa >> (64 - target.mantissa) or 1 << (target.mantissa - 1)
        if not has_infinity(target):
            mantissa = (1 << target.mantissa) - 1
        return sign | ((1 << target.exponent) - 1) << target.mantissa | mantissa
    if magnitude == largest(source) and has_infinity(source):
        return sign | largest(target)
    return sign | nearest(value_of(magnitude, source), target)


@given(data=st.data(), pair=st.sampled_from(PAIRS))
def test_every_number_becomes_the_nearest(data: st.DataObject, pair: tuple[DType, DType]):
    """Any bits of any kind become what exact arithmetic with fractions says."""
    source, target = pair
    drawn = data.draw(st.lists(patterns(source), min_size=1, max_size=20))
    wanted = [expected(pattern, source, target) for pattern in drawn]
    if source is target:
        wanted = drawn
    assert convert(bits(drawn, source), source, target).tolist() == wanted


@pytest.mark.parametrize(("source", "target"), EXACT)
def test_what_is_exact_comes_back(source: DType, target: DType):
    """A kind with more bits of both fields holds every number of the other."""
    values = np.arange(1 << min(16, 8 * source.width)).astype(f"<u{source.width}")
    if source.width > 2:
        values = values * np.uint64(0x9E3779B97F4A7C15 >> (64 - 8 * source.width))
        values = values.astype(f"<u{source.width}")
    there = convert(values, source, target)
    assert there.dtype == np.dtype(f"<u{target.width}")
    assert convert(there, target, source).tolist() == values.tolist()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_long_array_is_its_values_one_by_one(source: DType, target: DType):
    """Where an array is cut for speed makes no difference."""
    values = np.random.default_rng(5).integers(0, 1 << 63, 70_001, np.uint64)
    values = (values >> np.uint64(max(0, 63 - 8 * source.width))).astype(f"<u{source.width}")
    whole = convert(values, source, target)
    for start in (0, 32_700, 65_500, 69_900):
        part = convert(values[start : start + 100], source, target)
        assert whole[start : start + 100].tolist() == part.tolist()


def test_only_floats_are_converted():
    """Integers, complex numbers and scales have no other form."""
    for dtype in DTYPES:
        assert is_convertible(dtype, KINDS[0]) == (dtype.name in NAMES)
        assert is_convertible(KINDS[0], dtype) == (dtype.name in NAMES)


@pytest.mark.parametrize(("source", "target"), CAST)
def test_agrees_with_torch(source: DType, target: DType):
    """Numbers become what torch makes of them."""
    torch = pytest.importorskip("torch")
    kinds = {
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F32": torch.float32,
        "F64": torch.float64,
    }
    values = np.random.default_rng(6).integers(0, 1 << 63, 50_000, np.uint64)
    values = (values >> np.uint64(max(0, 63 - 8 * source.width))).astype(f"<u{source.width}")
    cast = torch.from_numpy(values.view(f"<i{source.width}")).view(kinds[source.name])
    number = ~torch.isnan(cast.double()).numpy()
    signed = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[target.width]
    theirs = cast.to(kinds[target.name]).view(signed).numpy().view(f"<u{target.width}")
    ours = convert(values, source, target)
    assert ours[number].tolist() == theirs[number].tolist()
