"""A prediction is the same wherever it is computed, and what real merges give."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.codecs import prediction_numba, prediction_numpy
from modelstore.codecs.factors import ROUNDED, STORED, Factors, Recipe
from modelstore.codecs.prediction import _steps, best_rounding, predict, predictable
from modelstore.numeric import DType, dtype_named
from tests.merges import BF16, COLUMNS, F32, RANK, ROWS, float_bits, merge


def _plain(stored: DType, count: int, seed: int) -> np.ndarray:
    bits = np.random.default_rng(seed).integers(0, 1 << 8 * stored.width, count)
    return bits.astype(f"<u{stored.width}")


@st.composite
def problems(draw: st.DrawFn) -> tuple[DType, np.ndarray, int, Factors]:
    """Draw a base and factors of any bits at all, and where the base begins."""
    rank, rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 5)), draw(st.integers(1, 30))
    stored, rounded = st.sampled_from(STORED), st.sampled_from(ROUNDED)
    left, right, dtype = draw(stored), draw(stored), draw(rounded)
    seed, scale = draw(st.integers(0, 99)), draw(st.floats(-8, 8, width=32))
    recipe = Recipe(
        *(rank, columns, left, right, scale, draw(rounded), draw(rounded), draw(rounded)),
        *(draw(st.booleans()), draw(st.booleans())),
    )
    maker = draw(st.sampled_from((_plain, float_bits)))
    makers = (maker if kind.is_float else _plain for kind in (left, right))
    first, second = (make(kind, size, seed) for make, kind, size in zip(
        makers, (left, right), (rows * rank, rank * columns), strict=True
    ))  # fmt: skip
    start = draw(st.integers(0, rows * columns - 1))
    count = draw(st.integers(1, rows * columns - start))
    return dtype, float_bits(dtype, count, seed), start, Factors(recipe, first, second)


@given(problem=problems())
def test_numba_and_numpy_agree(problem: tuple[DType, np.ndarray, int, Factors]):
    """Both give the same bits, of any bits, and leave NaNs and infinities alone."""
    dtype, base, start, factors = problem
    row = start // factors.recipe.columns
    arguments = (
        *(base, start - row * factors.recipe.columns, factors.left_values(row, factors.rows)),
        *(factors.right_values(), _steps(factors, dtype)),
    )
    plain = prediction_numpy.predict(*arguments)
    assert prediction_numba.predict(*arguments).tobytes() == plain.tobytes()
    assert predict(base, dtype, start, factors).tobytes() == plain.tobytes()
    special = ((1 << dtype.exponent) - 1) << dtype.mantissa
    kept = (base & special) == special
    assert np.array_equal(plain[kept], base[kept])


@pytest.mark.parametrize("dtype", ROUNDED, ids=lambda dtype: dtype.name)
def test_blocks_are_parts_of_the_whole(dtype: DType):
    """A block that begins and ends within rows is predicted as in one go."""
    base, factors = merge(dtype)
    whole = predict(base, dtype, 0, factors)
    for start, stop in ((0, 1), (1499, 1501), (700, 31000), (59999, 60000)):
        assert np.array_equal(predict(base[start:stop], dtype, start, factors), whole[start:stop])


def test_it_is_the_formula():
    """A value is the sum of its products in order, and four roundings."""
    base, factors = merge(F32)
    left, right = factors.left_values(0, ROWS), factors.right_values()
    predicted = predict(base, F32, 0, factors).view("<f4")
    for index in (17, 1234, 40001, 59998):
        total = 0.0
        for component in range(RANK):
            total += left[index // COLUMNS, component] * right[component, index % COLUMNS]
        update = np.float32(np.float32(total) * 0.25)
        assert predicted[index] == np.float32(float(base.view("<f4")[index]) + float(update))


GOLDEN = "15f8f26dcb7fd76502059ad84fdd69e318de2eaa3ca56070ac329e63a31d7ee2"
"""The BLAKE3 of all that `tests.merges.golden` predicts: stored frames are decoded with it."""

_PROGRAM = """
import sys
if {without_numba}:
    sys.modules["numba"] = None
from tests.merges import golden
print(golden())
"""


@pytest.mark.parametrize("processor", ["native", "generic", "none"])
def test_golden_predictions_on_other_processors(processor: str):
    """Compiled for this processor, for any of its family, or not at all: the same bytes."""
    settings = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    environment = {**os.environ, **(settings if processor == "generic" else {})}
    program = _PROGRAM.format(without_numba=processor == "none")
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == GOLDEN


@pytest.mark.parametrize("stored", [F32, BF16], ids=lambda dtype: dtype.name)
def test_merges_of_peft_are_predicted(stored: DType):
    """What PyTorch computes as PEFT does is predicted in all but a few values in a hundred thousand."""
    torch = pytest.importorskip("torch")
    kind = torch.float32 if stored is F32 else torch.bfloat16
    generator = torch.Generator().manual_seed(0)
    a = (torch.randn(16, 512, generator=generator) * 0.05).to(kind)
    b = (torch.randn(512, 16, generator=generator) * 0.01).to(kind)
    base = (torch.randn(512, 512, generator=generator) * 0.02).to(torch.bfloat16)
    update = ((b.float() @ a.float()) * 1.7).to(kind)
    merged = (base + update).to(torch.bfloat16)

    def bits(tensor: object) -> np.ndarray:
        width = stored.width if tensor is a or tensor is b else 2
        raw = tensor.reshape(-1).view(torch.uint8).numpy()  # type: ignore[attr-defined]
        return raw.view(f"<u{width}")

    scale = float(np.float32(1.7))
    factors = Factors(Recipe(16, 512, stored, stored, scale), bits(b), bits(a))
    best = best_rounding(bits(merged), bits(base), BF16, factors)
    wrong = predict(bits(base), BF16, 0, best) != bits(merged)
    assert wrong.mean() < 1e-4
    assert best.recipe.update is stored


def test_what_is_predictable():
    """Floats of 16 and 32 bits are; integers, eight and 64 bits are not."""
    names = ("F32", "F16", "BF16", "F64", "F8_E4M3", "I16", "")
    assert [predictable(dtype_named(name)) for name in names] == [True] * 3 + [False] * 4
