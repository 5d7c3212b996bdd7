"""Recipes and the tensors that they are for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.codecs.base import PayloadError
from modelstore.codecs.factors import ROUNDED, STORED, Factors, Recipe, zigzag
from modelstore.numeric import dtype_named

U8, F32 = dtype_named("U8"), dtype_named("F32")


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw any recipe."""
    rank = draw(st.integers(1, 40))
    exponents = st.lists(st.integers(-128, 127), min_size=rank, max_size=rank).map(tuple)
    stored, rounded = st.sampled_from(STORED), st.sampled_from(ROUNDED)
    return Recipe(
        *(rank, draw(st.integers(1, 1 << 31)), draw(stored), draw(stored)),
        draw(st.floats(width=32, allow_nan=False, allow_infinity=False)),
        *(draw(rounded), draw(rounded), draw(rounded), draw(st.booleans()), draw(st.booleans())),
        draw(st.just(()) | exponents),
    )


@given(recipe=recipes())
def test_recipes_come_back(recipe: Recipe):
    """A recipe is its bytes."""
    assert Recipe.from_bytes(recipe.to_bytes()) == recipe


@given(recipe=recipes(), data=st.data())
def test_damaged_recipes_are_refused_or_valid(recipe: Recipe, data: st.DataObject):
    """Damage gives another valid recipe or a PayloadError, nothing else."""
    packed = bytearray(recipe.to_bytes())
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    for cut in (packed, packed[:place], bytes(packed) + b"\0"):
        try:
            found = Recipe.from_bytes(cut)
        except PayloadError:
            continue
        assert found.to_bytes() == bytes(cut)


@given(values=st.lists(st.integers(-(1 << 15), (1 << 15) - 1), min_size=1, max_size=50))
def test_integers_are_stored_in_zigzag(values: list[int]):
    """What is folded is read as it was, in either order of storage."""
    dtype = dtype_named("U16")
    bits = zigzag(np.array(values, np.int32), dtype)
    ones = np.ones(len(values), "<u1") * 2
    by_row = Factors(Recipe(1, len(values), dtype, U8), bits, ones)
    by_rank = Factors(Recipe(1, len(values), dtype, U8, left_by_rank=True), bits, ones)
    for factors in (by_row, by_rank):
        assert factors.left_values(0, len(values)).reshape(-1).tolist() == values
        assert factors.right_values().tolist() == [[1.0] * len(values)]


def test_orders_of_storage_mean_the_same():
    """A factor stored along the rank or across it has the same values."""
    left, right = np.arange(6, dtype="<u1").reshape(3, 2), np.arange(8, dtype="<u1").reshape(2, 4)
    plain = Factors(Recipe(2, 4, U8, U8), left.reshape(-1), right.reshape(-1))
    turned = Factors(
        Recipe(2, 4, U8, U8, left_by_rank=True, right_by_column=True),
        left.T.reshape(-1),
        right.T.reshape(-1),
    )
    assert plain.rows == turned.rows == 3
    assert np.array_equal(plain.left_values(1, 3), turned.left_values(1, 3))
    assert np.array_equal(plain.right_values(), turned.right_values())


@pytest.mark.parametrize(("left", "right"), [(5, 8), (6, 7), (6, 0)])
def test_factors_of_other_sizes_are_refused(left: int, right: int):
    """Tensors that do not fill their matrices are errors."""
    with pytest.raises(PayloadError):
        Factors.from_blobs(Recipe(2, 4, U8, U8), bytes(left), bytes(right))
    with pytest.raises(PayloadError):
        Factors.from_blobs(Recipe(1, 1, F32, F32), bytes(5), bytes(4))
