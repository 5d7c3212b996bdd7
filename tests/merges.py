"""Merges of low rank with all that arithmetic tends to lose, and a digest of their predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelstore.codecs import prediction
from modelstore.codecs.factors import ROUNDED, Factors, Recipe
from modelstore.hashing import digest_of
from modelstore.numeric import DType, dtype_named
from tests.contracts.codec import special_values

BF16, F16, F32 = (dtype_named(name) for name in ("BF16", "F16", "F32"))
RANK, ROWS, COLUMNS = 6, 40, 1500


def float_bits(dtype: DType, count: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """Return normal values as bits, and every value that arithmetic tends to lose."""
    values = (np.random.default_rng(seed).standard_normal(count) * scale).astype("<f4")
    if dtype is F16:
        bits = values.astype("<f2").view("<u2")
    else:
        bits = (values.view("<u4") >> (32 - 8 * dtype.width)).astype(f"<u{dtype.width}")
    special = np.array([*special_values(dtype)], bits.dtype)
    places = bits[1 :: max(2, count // special.size)][: special.size]
    places[:] = special[: places.size]
    return bits


def merge(dtype: DType, stored: DType = F32, scale: float = 0.25) -> tuple[np.ndarray, Factors]:
    """Return a base of this dtype, and finite factors for it that are stored as another."""
    left = float_bits(stored, ROWS * RANK, 1, 0.03)
    right = float_bits(stored, RANK * COLUMNS, 2, 0.05)
    for factor in (left, right):
        infinity = ((1 << stored.exponent) - 1) << stored.mantissa
        factor[(factor & infinity) == infinity] = 0
    factors = Factors(Recipe(RANK, COLUMNS, stored, stored, scale), left, right)
    return float_bits(dtype, ROWS * COLUMNS, 3, 0.02), factors


def golden() -> str:
    """Return a digest of predictions in all dtypes and roundings, compiled where there is numba."""
    prediction._twins.left = 1
    found = []
    for dtype in ROUNDED:
        for stored in (F32, BF16, F16):
            base, factors = merge(dtype, stored)
            for recipe in factors.recipe.roundings(dtype):
                way = replace(factors, recipe=recipe)
                found.append(prediction.predict(base, dtype, 0, way).tobytes())
    return digest_of(b"".join(found))
