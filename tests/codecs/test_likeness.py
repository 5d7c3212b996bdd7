"""How alike tensors are: told from few values, whatever kind of numbers they are."""

from __future__ import annotations

import numpy as np
import pytest

from modelstore.codecs.convert import convert
from modelstore.codecs.likeness import likeness, sketch, sketched_range
from modelstore.numeric import as_bits, dtype_named
from tests.blobs.conftest import BF16, fine_tuned


def test_a_fine_tune_is_like_its_base_and_like_nothing_else():
    """A small step changes hardly a sign or exponent; other weights share few."""
    old, new = fine_tuned(2)
    assert likeness(sketch(old, BF16), sketch(new, BF16)) > 0.9
    assert likeness(sketch(old, BF16), sketch(new[::-1][1:] + b"\0", BF16)) < 0.4
    assert likeness(sketch(old, BF16), sketch(new[:-2], BF16)) == 0.0


@pytest.mark.parametrize("name", ["F16", "F32", "F64"])
def test_kinds_of_numbers_do_not_matter(name: str):
    """The same weights in another kind of floats are as like as can be."""
    data = fine_tuned(1)[0]
    other = convert(as_bits(data, BF16), BF16, dtype_named(name)).tobytes()
    assert likeness(sketch(data, BF16), sketch(other, dtype_named(name))) > 0.99


def test_integers_count_whole():
    """Of integers those that are equal are alike."""
    kind = dtype_named("I32")
    values = np.arange(100, dtype="<i4")
    other = np.where(values % 4, values, values + 1).astype("<i4")
    assert likeness(sketch(values.tobytes(), kind), sketch(other.tobytes(), kind)) == 0.75


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 1 << 20])
def test_the_middle_is_looked_at(count: int):
    """The range lies within the tensor and is no longer than it takes."""
    start, stop = sketched_range(count)
    assert 0 <= start <= stop <= count
    assert stop - start == min(count, 4096)
    assert likeness(np.zeros(0), np.zeros(0)) == 0.0
