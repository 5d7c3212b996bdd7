"""Factors are found where a matrix was merged from some, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelstore.codecs.factors import Factors, Recipe
from modelstore.codecs.prediction import predict
from modelstore.lowrank import find
from modelstore.lowrank.merge import Merge
from modelstore.lowrank.quantise import integers_cost
from modelstore.numeric import DType, dtype_named

BF16, F16, F32 = (dtype_named(name) for name in ("BF16", "F16", "F32"))
ROWS, COLUMNS, RANK = 320, 256, 8


def _bits(values: np.ndarray, dtype: DType) -> np.ndarray:
    if dtype is F16:
        return values.astype("<f2").view("<u2").reshape(-1)
    single = values.astype("<f4").view("<u4").reshape(-1)
    return ((single + 0x7FFF + ((single >> 16) & 1)) >> 16).astype("<u2")


def _floats(bits: np.ndarray, dtype: DType) -> np.ndarray:
    if dtype is F16:
        return bits.view("<f2").astype("<f4")
    return (bits.astype("<u4") << 16).view("<f4")


def _merged(dtype: DType, seed: int = 0, strength: float = 2e-3) -> tuple[np.ndarray, np.ndarray]:
    """Return a merge of rank 8 and its base."""
    random = np.random.default_rng(seed)
    base = _bits(random.standard_normal((ROWS, COLUMNS)) * 0.05, dtype)
    product = random.standard_normal((ROWS, RANK)) @ random.standard_normal((RANK, COLUMNS))
    update = product.reshape(-1) * strength / np.sqrt(RANK)
    return _bits(_floats(base, dtype) + update, dtype), base


@pytest.mark.parametrize("dtype", [BF16, F16], ids=lambda dtype: dtype.name)
def test_factors_of_a_merge_are_found(dtype: DType):
    """Nearly every value is predicted, for a fraction of what the difference would cost."""
    values, base = _merged(dtype)
    factors = find.find_factors(values, base, dtype, COLUMNS)
    assert factors is not None
    assert factors.recipe.rank == RANK
    assert (predict(base, dtype, 0, factors) == values).mean() > 0.85
    merge = Merge(values.reshape(ROWS, -1), base.reshape(ROWS, -1), dtype)
    assert find.cost(merge, factors) < 0.5 * merge.coded_bits(merge.base)


def test_factors_are_stored_as_two_small_tensors():
    """What is stored is integers of a byte or two, and predicts the same when read again."""
    values, base = _merged(BF16)
    found = find.find_factors(values, base, BF16, COLUMNS)
    assert found is not None
    assert {found.recipe.left.name, found.recipe.right.name} <= {"U8", "U16"}
    assert found.left.size == RANK * ROWS
    again = Factors.from_blobs(
        type(found.recipe).from_bytes(found.recipe.to_bytes()),
        found.left.tobytes(),
        found.right.tobytes(),
    )
    assert np.array_equal(predict(base, BF16, 0, again), predict(base, BF16, 0, found))


def test_other_changes_have_no_factors():
    """A change in all directions, no change, and another matrix are refused."""
    random = np.random.default_rng(5)
    _, base = _merged(BF16)
    noise = _floats(base, BF16) + random.standard_normal(base.size) * 1e-3
    other = random.standard_normal(base.size) * 0.05
    for values in (_bits(noise, BF16), base.copy(), _bits(other, BF16)):
        assert find.find_factors(values, base, BF16, COLUMNS) is None


def test_what_cannot_be_searched_is_refused():
    """Infinities, NaNs, other dtypes, narrow, ragged and empty matrices have no factors."""
    values, base = _merged(BF16)
    for special in (0x7F80, 0xFFC1):
        odd = values.copy()
        odd[77] = special
        assert find.find_factors(odd, base, BF16, COLUMNS) is None
        assert find.find_factors(values, odd, BF16, COLUMNS) is None
    assert find.find_factors(values, base, dtype_named("U16"), COLUMNS) is None
    for columns in (0, 1, 7, ROWS * COLUMNS, 32):
        assert find.find_factors(values, base, BF16, columns) is None
    assert find.find_factors(values[:0], base[:0], BF16, COLUMNS) is None
    assert find.find_factors(values[COLUMNS:], base, BF16, COLUMNS) is None


def test_any_bits_are_survived():
    """Values without any sense give factors or none, and no warning."""
    random = np.random.default_rng(6)
    for top in (1 << 7, 1 << 15):
        values, base = random.integers(0, top, (2, 128 * 128)).astype("<u2") & 0xBF7F
        find.find_factors(values, base, BF16, 128)


@pytest.mark.parametrize("dtype", [BF16, F16], ids=lambda dtype: dtype.name)
def test_intervals_hold_what_rounds_to_the_values(dtype: DType):
    """The ends of an interval round to the value or its neighbour, and its inside to the value."""
    special = np.array([0, 1, 2, 0x80, 0x400, 0x3C00, 0x3F80, 0x3F7F, 0x4242, 0x0001], "<u2")
    values = np.concatenate((special, special | 0x8000)).reshape(1, -1)
    middle, width = Merge(values, np.zeros_like(values), dtype).interval(slice(None))
    for share in (-0.49, 0.0, 0.49):
        inside = _bits(middle + width * np.float32(share), dtype)
        assert np.array_equal(inside & 0x7FFF, values[0] & 0x7FFF)
    for share in (-0.51, 0.51):
        outside = _bits(middle + width * np.float32(share), dtype)
        assert (outside != values[0]).all()


def _known() -> tuple[np.ndarray, np.ndarray, Factors]:
    """Return a merge of rank 8, its base, and the factors that were merged, in float32."""
    random = np.random.default_rng(0)
    base = _bits(random.standard_normal((ROWS, COLUMNS)) * 0.05, BF16)
    sides = (random.standard_normal(size) for size in (ROWS * RANK, RANK * COLUMNS))
    first, second = ((0.03 * side).astype("<f4").view("<u4") for side in sides)
    recipe = Recipe(RANK, COLUMNS, F32, F32, 0.5)
    known = Factors(recipe, first, second)
    return predict(base, BF16, 0, known), base, known


def test_known_factors_become_integers():
    """Integers predict nearly what the factors do, and are a fraction of their size."""
    values, base, known = _known()
    found = find.quantised(values, base, BF16, known)
    assert found is not None
    assert {found.recipe.left.name, found.recipe.right.name} <= {"U8", "U16"}
    assert (predict(base, BF16, 0, found) == values).mean() > 0.9
    assert integers_cost(found) < 0.4 * 32 * (known.left.size + known.right.size)


def test_factors_that_cannot_become_integers():
    """Zeros, no numbers, too many components and other dtypes give none, and no warning."""
    values, base, known = _known()
    for bits in (0, 0x7F800000, 0x7FC00000):
        left = np.full_like(known.left, bits)
        found = find.quantised(values, base, BF16, replace(known, left=left))
        assert found is None or bits == 0
    odd = values.copy()
    odd[3] = 0x7F80
    assert find.quantised(odd, base, BF16, known) is None
    assert find.quantised(values, base, dtype_named("I16"), known) is None
    wide = Recipe(80, COLUMNS, F32, F32)
    many = Factors(wide, np.resize(known.left, 80 * ROWS), np.resize(known.right, 80 * COLUMNS))
    assert find.quantised(values, base, BF16, many) is None
