"""Conversions of floats by integers give what the standard says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.codecs.floats import narrowed, precision_of, rounded, to_float64
from modelstore.numeric import dtype_named

NAMES = ("BF16", "F16", "F32")
wide = st.floats(width=64) | st.floats(-1e-30, 1e-30) | st.floats(-1e6, 1e6)


def _patterns(name: str) -> np.ndarray:
    """Return every pattern of 16 bits, or those of the half as many upper bits of 32."""
    every = np.arange(1 << 16)
    return (every << 16 | every >> 3).astype("<u4") if name == "F32" else every.astype("<u2")


def _by_processor(bits: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        if name == "F16":
            return bits.view("<f2").astype(np.float64)
        single = bits if name == "F32" else bits.astype("<u4") << 16
        return single.view("<f4").astype(np.float64)


@pytest.mark.parametrize("name", NAMES)
def test_every_pattern_widens_and_narrows(name: str):
    """Zeros, denormals, normal numbers and infinities are exact, and NaNs stay NaNs."""
    bits, dtype = _patterns(name), dtype_named(name)
    values, expected = to_float64(bits, dtype), _by_processor(bits, name)
    number = ~np.isnan(expected)
    assert np.isnan(values[~number]).all()
    assert values[number].tobytes() == expected[number].tobytes()
    precision = precision_of(dtype)
    assert np.array_equal(narrowed(values, precision)[number], bits[number])
    assert rounded(values, precision)[number].tobytes() == expected[number].tobytes()


@pytest.mark.parametrize(("name", "kind"), [("F16", "<f2"), ("F32", "<f4")])
@given(values=st.lists(wide, min_size=1, max_size=40))
def test_rounding_is_that_of_the_processor(name: str, kind: str, values: list[float]):
    """Float64 becomes the nearest float16 or float32, ties to even, overflow to infinity."""
    some = np.array(values)
    with np.errstate(all="ignore"):
        expected = some.astype(kind).astype(np.float64)
    found = rounded(some, precision_of(dtype_named(name)))
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    number = ~np.isnan(expected)
    assert found[number].tobytes() == expected[number].tobytes()


@given(value=st.floats(-3e38, 3e38))
def test_bf16_is_the_nearest_one(value: float):
    """No neighbour of a rounded value is nearer, and of two equally near ones it is the even."""
    precision = precision_of(dtype_named("BF16"))
    found = rounded(np.array([value]), precision)
    bits = int(narrowed(found, precision)[0])
    neighbours = [near for near in (bits - 1, bits + 1) if 0 <= near & 0x7FFF < 0x7F80]
    values = to_float64(np.array(neighbours, "<u2"), dtype_named("BF16"))
    for other in values:
        assert abs(value - found[0]) <= abs(value - other)
        assert abs(value - found[0]) < abs(value - other) or bits % 2 == 0


def test_ties_go_to_even():
    """Halfway between two neighbours the one with the even mantissa wins."""
    precision = precision_of(dtype_named("BF16"))
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 2.0**-134, 3 * 2.0**-134])
    expected = np.array([1, 1 + 4 * 2**-8, -1, 0.0, 2.0**-132])
    assert rounded(ties, precision).tobytes() == expected.tobytes()
