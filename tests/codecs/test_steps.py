"""Steps from a base: compiled or not, in rows or not, whatever the array they lie in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.codecs import fields, steps, steps_numba, steps_numpy
from modelstore.codecs.base import NO_GRID, Bits, Grid
from modelstore.codecs.compiling import steady
from modelstore.codecs.steps import StepsCodec
from modelstore.numeric import DType, dtype_named
from tests.blobs.golden import FRAMES

BF16 = dtype_named("BF16")
FLOATS = [dtype_named(name) for name in ("F8_E4M3", "BF16", "F16", "F32", "F64")]


@st.composite
def moved(draw: st.DrawFn) -> tuple[DType, Bits, Bits]:
    """Draw values and a base whose distances are small, large, or both."""
    dtype = draw(st.sampled_from(FLOATS))
    bits, count = 8 * dtype.width, draw(st.sampled_from((1, 63, 64, 65, 3000)))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    base = rng.integers(0, 1 << bits, count, np.uint64, endpoint=False) if bits < 64 else None
    base = rng.integers(0, (1 << 64) - 1, count, np.uint64) if base is None else base
    shifts = rng.integers(draw(st.integers(0, bits)), bits, count, endpoint=True) % 64
    distances = rng.integers(0, (1 << 64) - 1, count, np.uint64) >> (63 - shifts).astype(np.uint64)
    distances[rng.random(count) < draw(st.sampled_from((0.0, 0.5, 0.99)))] = 0
    kind = f"<u{dtype.width}"
    return dtype, (base + distances).astype(kind), base.astype(kind)


@given(drawn=moved())
def test_numba_and_numpy_agree(drawn: tuple[DType, Bits, Bits]):
    """Tokens and bits give the values back, with a compiler and without; so do exponents."""
    dtype, values, base = drawn
    layout = fields.layout_of(dtype)
    known = (*steps._order(layout), *steps._exponent(layout))
    tokens, extra = steps._tokens(values.size), np.empty(values.nbytes // 8 + 2, np.uint64)
    exponents, slow_exponents = np.empty((2, values.size), np.uint8)
    filled = (tokens, tokens.view(np.uint64), exponents, extra)
    bits = steps_numba.differ(steady(values), steady(base), *known, *filled)
    steps_numpy.exponents_of(base, *steps._exponent(layout), slow_exponents)
    assert np.array_equal(exponents, slow_exponents)
    assert bits == steps_numba.bits_below(tokens) == steps_numpy.bits_below(tokens)
    words = np.append(extra[: bits // 64 + 1], np.uint64(0))
    for loops in (steps_numba, steps_numpy):
        found = np.empty_like(values)
        views = (tokens, tokens.view(np.uint64), words)
        loops.restore(*views, steady(base), *steps._order(layout), found)
        assert np.array_equal(found, values)


@given(symbol=st.integers(0, (1 << 64) - 1))
def test_tokens_are_those_of_the_format(symbol: int):
    """The compiled loops make the tokens that the page on the format defines."""
    number = dtype_named("U64")
    known = (*steps._order(fields.layout_of(number)), *steps._exponent(fields.layout_of(number)))
    step = symbol >> 1 if symbol % 2 == 0 else ((1 << 64) - 1) ^ (symbol >> 1)
    values, base = np.array([step], "<u8"), np.zeros(1, "<u8")
    tokens, extra = steps._tokens(1), np.empty(3, np.uint64)
    filled = (tokens, tokens.view(np.uint64), np.empty(1, np.uint8), extra)
    steps_numba.differ(steady(values), steady(base), *known, *filled)
    assert tokens[0] == steps_numpy.token_of(symbol)


@settings(max_examples=30)
@given(count=st.integers(1, 300), width=st.integers(1, 70), data=st.data())
def test_classes_agree(count: int, width: int, data: st.DataObject):
    """Bytes are looked up, and rows and columns added, the same with a compiler and without."""
    rng = np.random.default_rng(count * width)
    phase = data.draw(st.integers(0, width - 1))
    numbers, table = rng.integers(0, 256, count, np.uint8), rng.integers(0, 256, 256, np.uint8)
    rows = rng.integers(0, 256, -(-(phase + count) // width), np.uint8)
    columns = rng.integers(0, 256, width, np.uint8)
    results = []
    for loops in (steps_numba, steps_numpy):
        found = np.empty(count, np.uint8)
        loops.look_up(numbers, table, found)
        assert np.array_equal(found, table[numbers])
        loops.add_rows(rows, columns, phase, found)
        results.append(found)
    assert np.array_equal(*results)


def trained(rows: int, columns: int, activity: float) -> tuple[Bits, Bits]:
    """Return a matrix in bf16 after and before steps that differ by row and column."""
    rng = np.random.default_rng(rows)
    before = rng.standard_normal((rows, columns)).astype(np.float32) * 0.03
    size = np.exp(activity * (rng.standard_normal((rows, 1)) + rng.standard_normal(columns)))
    after = before + 1e-4 * size * rng.standard_normal((rows, columns))
    first, second = (
        (some.astype(np.float32).view(np.uint32) >> 16).astype("<u2").ravel()
        for some in (before, after)
    )
    return second, first


def test_rows_and_columns_save_bits():
    """Where rows and columns move by different amounts, knowing them saves much; else nothing."""
    codec = StepsCodec()
    for activity, least in ((0.7, 0.08), (0.0, -0.001)):
        values, base = trained(300, 400, activity)
        alone = len(codec.encode(values, BF16, base, NO_GRID))
        rows = len(codec.encode(values, BF16, base, Grid(400, 0)))
        assert rows < (1 - least) * alone


def test_exponents_save_bits():
    """Steps take fewer bits than one table for all of them would need."""
    values, base = trained(300, 400, 0.0)
    layout = fields.layout_of(BF16)
    tokens, exponents = steps._tokens(values.size), np.empty(values.size, np.uint8)
    filled = (tokens, tokens.view(np.uint64), exponents, np.empty(values.nbytes, np.uint64))
    known = (*steps._order(layout), *steps._exponent(layout))
    bits = steps_numba.differ(steady(values), steady(base), *known, *filled)
    shares = np.bincount(tokens[: values.size]) / values.size
    shares = shares[shares > 0]
    one_table = bits - values.size * (shares * np.log2(shares)).sum()
    assert 8 * len(StepsCodec().encode(values, BF16, base, NO_GRID)) < 0.9 * one_table


@pytest.mark.parametrize("phase", [0, 123])
def test_blocks_may_begin_within_a_row(phase: int):
    """A block that begins and ends within rows comes back."""
    values, base = trained(200, 300, 0.7)
    values, base = values[phase : -phase or None], base[phase : -phase or None]
    codec = StepsCodec()
    body = codec.encode(values, BF16, base, Grid(300, phase))
    assert np.array_equal(codec.decode(body, values.size, BF16, base), values)


def test_loops_are_compiled_once():
    """However an array lies in memory, and whoever may write it, the same code works on it."""
    values, base = trained(40, 50, 0.5)
    crooked = np.frombuffer(b"." + values.tobytes(), "<u2", offset=1)
    codec = StepsCodec()
    bodies = {codec.encode(some, BF16, base, Grid(50, 0)) for some in (values, crooked)}
    before = len(steps_numba.differ.signatures)
    values.flags.writeable = base.flags.writeable = False
    bodies |= {codec.encode(some, BF16, base, Grid(50, 0)) for some in (values, crooked)}
    assert len(bodies) == 1
    assert len(steps_numba.differ.signatures) == before


def test_golden_frames_decode_without_numba(tmp_path: Path):
    """Where numba cannot be imported, every golden frame is read all the same."""
    program = f"""
import sys
sys.modules["numba"] = None
from pathlib import Path
from modelstore.blobs import BlobStore
from modelstore.hashing import Digest
blobs = BlobStore(Path({str(tmp_path)!r}))
blobs.create()
names = []
for path in sorted(Path({str(FRAMES)!r}).glob("*.frame")):
    names.append(Digest(path.read_bytes()[64:96].hex()))
    blobs.path(names[-1]).write_bytes(path.read_bytes())
for name in names:
    blobs.read(name)
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    assert int(done.stdout) == len(list(FRAMES.glob("*.frame")))
