"""Stored bits come out as the numbers they are: torch and the specifications are the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

from modelstore.errors import IntegrityError
from modelstore.formats.base import Tensor, View
from modelstore.values import NumpyArrays, as_wide, check_fit, is_number
from tests.builders import BITS, Values
from tests.strategies import tensors

torch = pytest.importorskip("torch")

ALL_BYTES = bytes(range(256))
TORCH = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "BF16": torch.bfloat16,
}
NUMBERS = tuple(name for name, bits in BITS.items() if bits % 8 == 0)


def as_torch_says(data: bytes, dtype: str) -> np.ndarray:
    """Return the values as float32, by torch."""
    return torch.frombuffer(bytearray(data), dtype=TORCH[dtype]).float().numpy()


@pytest.mark.parametrize("dtype", [name for name in TORCH if name != "BF16"])
def test_every_byte_of_an_8_bit_float_is_what_torch_makes_of_it(dtype: str) -> None:
    """All 256 bytes of each kind give torch's value, NaN for NaN and the sign of zero included."""
    ours = NumpyArrays().flat(ALL_BYTES, dtype)
    theirs = as_torch_says(ALL_BYTES, dtype)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        np.signbit(ours[~np.isnan(ours)]), np.signbit(theirs[~np.isnan(theirs)])
    )


def test_every_bfloat16_becomes_the_float32_it_is() -> None:
    """All 65536 patterns keep their bits, as the upper half of a float32."""
    data = np.arange(1 << 16, dtype="<u2").tobytes()
    ours = NumpyArrays().flat(data, "BF16")
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, as_torch_says(data, "BF16"))


@given(tensors(NUMBERS))
def test_raw_values_hold_the_bytes_that_went_in(one: Values) -> None:
    """Whatever the kind, raw arrays are the bytes of the tensor in its shape."""
    array = NumpyArrays(raw=True).shaped(
        NumpyArrays(raw=True).flat(one.data, one.dtype), Tensor("w", one.dtype, one.shape)
    )
    assert array.shape == one.shape
    assert array.tobytes() == one.data


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "Q4_K", ""])
def test_packed_kinds_stay_bytes(dtype: str) -> None:
    """A kind without single values comes as one dimension of uint8, whatever its shape."""
    array = NumpyArrays().shaped(NumpyArrays().flat(b"\1\2\3", dtype), Tensor("w", dtype, (2, 3)))
    assert not is_number(dtype)
    assert array.dtype == np.uint8
    assert array.tolist() == [1, 2, 3]


def test_wide_values_are_float64_or_complex128() -> None:
    """What is computed with has the widest dtype of its family."""
    assert as_wide(b"\x80\x3f", "BF16").tolist() == [1.0]
    assert as_wide(b"\x7f", "F8_E4M3").dtype == np.float64
    assert as_wide(np.array([1 + 2j], "<c8").tobytes(), "C64").dtype == np.complex128
    assert math.isnan(as_wide(b"\xff", "F8_E8M0")[0])


def test_a_strided_tensor_is_a_view_of_its_span() -> None:
    """Offset and strides count values, as torch's do."""
    flat = NumpyArrays().flat(np.arange(10, dtype="<f4").tobytes(), "F32")
    tensor = Tensor("w", "F32", (2, 3), View(1, (1, 3)))
    assert NumpyArrays().shaped(flat, tensor).tolist() == [[1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize(
    ("shape", "view"),
    [
        ((3,), None),
        ((2, 3), View(0, (3, 1))),
        ((2,), View(4, (1,))),
        ((1 << 40,), View(0, (1 << 20,))),
        ((2, 2), View(0, (1,))),
    ],
)
def test_a_tensor_beyond_its_span_is_refused(shape: tuple[int, ...], view: View | None) -> None:
    """A manifest that claims more than a span holds never leads to a read outside of it."""
    with pytest.raises(IntegrityError, match="'w'"):
        check_fit(Tensor("w", "F32", shape, view), 20)


@pytest.mark.parametrize(
    ("shape", "view"),
    [((5,), None), ((), View(4, ())), ((0, 9), View(0, (9, 1))), ((2, 5), View(0, (0, 1)))],
)
def test_a_tensor_within_its_span_is_accepted(shape: tuple[int, ...], view: View | None) -> None:
    """Whole, scalar, empty and repeated tensors fit."""
    check_fit(Tensor("w", "F32", shape, view), 20)
