"""The compiled arithmetic and the plain one are the same."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given

from modelstore.codecs import kernels_numba, kernels_numpy
from modelstore.codecs.fields import layout_of
from modelstore.numeric import DType, as_bits
from tests.contracts.codec import all_blocks


@given(drawn=all_blocks)
def test_numba_and_numpy_agree(drawn: tuple[DType, tuple[bytes, bytes]]):
    """Both kernels give the same planes and take each other's planes back."""
    dtype, (raw, base) = drawn
    layout = layout_of(dtype)
    values, bases = as_bits(raw, dtype), as_bits(raw[: len(raw) - len(base)] + base, dtype)
    planes = kernels_numba.split(values, layout)
    assert np.array_equal(planes, kernels_numpy.split(values, layout))
    assert np.array_equal(kernels_numba.merge(planes, layout), values)
    assert np.array_equal(kernels_numpy.merge(planes, layout), values)
    moved = kernels_numba.differ(values, bases, layout)
    assert np.array_equal(moved, kernels_numpy.differ(values, bases, layout))
    assert np.array_equal(kernels_numba.apply(moved, bases, layout), values)
    assert np.array_equal(kernels_numpy.apply(moved, bases, layout), values)


def test_everything_decodes_without_numba():
    """Where numba cannot be imported, numpy reads and writes the same blocks."""
    program = """
import sys
sys.modules["numba"] = None
from modelstore.codecs import ids, kernels
from modelstore.codecs.blocks import decode_block, encode_block
from modelstore.numeric import dtype_named
raw, base = bytes(range(200)), bytes(range(1, 201))
payload = encode_block(ids.DELTA, raw, dtype_named("BF16"), base)
assert decode_block(ids.DELTA, payload, 200, dtype_named("BF16"), base) == raw
many = 1 << 21  # more values than are left to numpy where there is numba
assert kernels._twins.for_count(many).__name__ == "modelstore.codecs.kernels_numpy"
"""
    subprocess.run([sys.executable, "-c", program], check=True)
