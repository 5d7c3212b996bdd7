"""How the golden frames in `tests/data/frames` were made: ``python -m tests.blobs.golden``.

They are never made anew: a frame that an mstore has written must be readable for ever. Running
this adds the frames of new kinds and leaves the others alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from modelstore.blobs import BlobStore, BytesSource
from modelstore.blobs.choice import Choice
from modelstore.blobs.encode import Encoding
from modelstore.blobs.frame import FactorNames
from modelstore.blobs.open_factors import OpenFactors
from modelstore.blobs.reader import BlobReader, opened
from modelstore.codecs import ids
from modelstore.codecs.factors import Recipe
from modelstore.codecs.ids import CodecInfo
from modelstore.hashing import Digest, digest_of
from modelstore.numeric import DTYPES, DType, dtype_named
from tests.slow_conversion import converted
from tests.slow_parts import DTYPES as SLOW
from tests.slow_product import predicted

FRAMES = Path(__file__).parent.parent / "data" / "frames"

_COUNT = 900  # values: four blocks of 256, the last one short
_COLUMNS = 32


@dataclass(frozen=True)
class Case:
    """What a golden frame is made of."""

    codec: CodecInfo
    dtype: str
    raw: bytes
    base: bytes | None = None
    block_log2: int = 8
    columns: int = 0
    base_dtype: str = ""  # where it is not the blob's own
    recipe: Recipe | None = None
    factors: tuple[bytes, bytes] = (b"", b"")

    def names(self) -> FactorNames | None:
        """Return what the frame says of its factors, if it has some."""
        if self.recipe is None:
            return None
        left, right = (digest_of(raw) for raw in self.factors)
        return FactorNames(left, right, self.recipe.to_bytes())


def numbers(width: int, seed: int, count: int = _COUNT) -> np.ndarray:
    """Return values that no library's random generator can change: a xorshift sequence."""
    state, result = seed * 2654435761 + 1, []
    for _ in range(count):
        state ^= (state << 13) & (2**64 - 1)
        state ^= state >> 7
        state ^= (state << 17) & (2**64 - 1)
        result.append(state >> 40)
    small = np.array(result, "<i8") - (1 << 23)
    if width == 8:
        return (small * 2.0**-29).astype("<f8").view("<u8")
    if width == 4:
        return (small * 2.0**-29).astype("<f4").view("<u4")
    return ((small * 2.0**-29).astype("<f4").view("<u4") >> 16).astype("<u2")


def step(values: np.ndarray, seed: int) -> np.ndarray:
    """Return values a few steps away: one block the same, one constant, two moved."""
    moved = values + (numbers(2, seed) % 5).astype(values.dtype) - 2
    moved = moved.astype(values.dtype)
    moved[:256] = values[:256]
    moved[256:512] = values[300]
    return moved


def step_by_rows(values: np.ndarray) -> np.ndarray:
    """Return values that lie further away the later their row and column, some very far."""
    places = np.arange(values.size)
    wild = numbers(2, 77, values.size).astype(np.int64)
    far = places // _COLUMNS // 8 + places % _COLUMNS // 6
    moved = values.astype(np.int64) + wild % (1 + 2 * far) - far
    moved[::97] += wild[::97] % 5000
    return moved.astype(values.dtype)


@cache
def cases() -> dict[str, Case]:
    """Return what every golden frame is made of, by name."""
    text = b"".join(b"line %d of a text\n" % number for number in range(60))
    return {
        "raw": Case(ids.RAW, "", numbers(2, 1).tobytes()),
        "empty": Case(ids.RAW, "", b""),
        "zstd": Case(ids.ZSTD, "", text),
        **_zstd_planes(),
        **_entropy_coded(),
        **_large(),
        **_rare(),
        **_of_other_kinds(),
        **_converted(),
        **_products(),
    }


_KINDS = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I32": 4, "F8_E4M3": 1, "F8_E8M0": 1}


def _of_width(width: int, seed: int, count: int = _COUNT) -> np.ndarray:
    if width == 1:
        return (numbers(2, seed, count) >> 8).astype("<u1")
    return numbers(width, seed, count)


def _zstd_planes() -> dict[str, Case]:
    result = {}
    for seed, (dtype, width) in enumerate(_KINDS.items(), start=2):
        values = _of_width(width, seed)
        moved = step(values, seed)
        result[f"planes-{dtype}"] = Case(ids.PLANES, dtype, values.tobytes())
        result[f"delta-{dtype}"] = Case(ids.DELTA, dtype, moved.tobytes(), values.tobytes())
    head, moved = numbers(2, 2)[:700].tobytes(), step(numbers(2, 2), 9)
    result["planes-prefix"] = Case(ids.PLANES, "BF16", head)
    result["delta-on-prefix"] = Case(ids.DELTA, "BF16", moved.tobytes(), head)
    return result


def _entropy_coded() -> dict[str, Case]:
    result = {}
    for seed, (dtype, width) in enumerate(_KINDS.items(), start=32):
        values = _of_width(width, seed, 2100)
        moved, raw = step_by_rows(values).tobytes(), values.tobytes()
        result[f"entropy-{dtype}"] = Case(ids.ENTROPY, dtype, raw, None, 10)
        result[f"steps-{dtype}"] = Case(ids.STEPS, dtype, moved, raw, 10, _COLUMNS)
    head, moved = numbers(2, 40)[:700].tobytes(), step(numbers(2, 40), 9).tobytes()
    result["entropy-prefix"] = Case(ids.ENTROPY, "BF16", head, None, 10)
    result["steps-on-prefix"] = Case(ids.STEPS, "BF16", moved, head, 10)
    return result


def _large() -> dict[str, Case]:
    """Return blocks of several sections, and with pairs; few exponents, so that they stay small."""
    count = (1 << 17) + 1001
    values = np.where(numbers(2, 50, count) % 7 == 0, 0x3D00, 0x3C80).astype("<u2")
    values[::5000] = (np.arange(values[::5000].size) * 128).astype("<u2")
    moved = (values + (np.arange(count) % 1000 == 0)).astype("<u2")
    return {
        "entropy-large": Case(ids.ENTROPY, "BF16", values.tobytes(), None, 18),
        "steps-large": Case(ids.STEPS, "BF16", moved.tobytes(), values.tobytes(), 18),
    }


def _rare() -> dict[str, Case]:
    """Return what the other cases have no use for."""
    values, head = numbers(2, 60, 3500) // 512 * 512, numbers(2, 61, 1100)
    still = np.arange(values.size) % 65 < 40  # columns that do not move
    near = (values + np.where(still, 0, numbers(2, 62, values.size) % 64)).astype("<u2")
    far = (near + np.where(still, 0, numbers(2, 63, values.size) % 64)).astype("<u2")
    longer = np.concatenate((step_by_rows(head), head // 512 * 512))
    even = np.arange((1 << 17) + 6)
    few = np.where(even % 5000 == 0, 0x3D01, 0x3D00).astype("<u2")
    moved = (few + (even % 1000 == 0)).astype("<u2")
    return {
        "entropy-rare": Case(ids.ENTROPY, "BF16", values.tobytes(), None, 11),
        "steps-odd-rows": Case(ids.STEPS, "BF16", near.tobytes(), values.tobytes(), 11, 65),
        "steps-on-steps": Case(ids.STEPS, "BF16", far.tobytes(), near.tobytes(), 11, 65),
        "entropy-head": Case(ids.ENTROPY, "BF16", head.tobytes(), None, 10),
        "steps-on-head": Case(ids.STEPS, "BF16", longer.tobytes(), head.tobytes(), 10),
        "steps-on-longer": Case(ids.STEPS, "BF16", (head + 1).tobytes(), longer.tobytes(), 10),
        "entropy-even": Case(ids.ENTROPY, "BF16", few.tobytes(), None, 18),
        "steps-even": Case(ids.STEPS, "BF16", moved.tobytes(), few.tobytes(), 18),
    }


def _of_other_kinds() -> dict[str, Case]:
    """Return small frames of the dtypes that `_KINDS` lacks."""
    result = {}
    for seed, kind in enumerate(DTYPES, start=70):
        if kind.name in _KINDS:
            continue
        name = kind.name or "bytes"
        values = _of_width(kind.width, seed, 600)
        moved = step_by_rows(values)
        result[f"entropy-{name}"] = Case(ids.ENTROPY, kind.name, values.tobytes(), None, 10)
        result[f"steps-{name}"] = Case(
            ids.STEPS, kind.name, moved.tobytes(), values.tobytes(), 10, _COLUMNS
        )
    return result


_CONVERSIONS = (
    *(("BF16", "F32"), ("F32", "BF16"), ("F16", "F32"), ("F32", "F16"), ("BF16", "F16")),
    *(("F16", "BF16"), ("F64", "F32"), ("F32", "F64"), ("F32", "F8_E4M3"), ("F8_E4M3", "BF16")),
    *(("BF16", "F8_E5M2"), ("F8_E5M2", "F8_E4M3"), ("F8_E4M3", "F8_E5M2"), ("F64", "F8_E5M2")),
)
"""Dtypes of a base and of a blob: each of those that are converted is there as both."""


def _converted() -> dict[str, Case]:
    """Return blobs whose first block is the converted base, and the rest steps away from it."""
    result = {}
    for old in sorted({old for old, _ in _CONVERSIONS}):
        raw = _packed(_special(old), dtype_named(old).width)
        name = old.split("_")[0]  # the two F8 are bases of the same bytes, read in two ways
        result[f"entropy-special-{name}"] = Case(ids.ENTROPY, old, raw)
    for old, new in _CONVERSIONS:
        kinds = SLOW[dtype_named(old).code], SLOW[dtype_named(new).code]
        values = [converted(value, *kinds) for value in _special(old)]
        moved = [value ^ (index > 160 and index % 3 == 0) for index, value in enumerate(values)]
        base = _packed(_special(old), dtype_named(old).width)
        raw = _packed(moved, dtype_named(new).width)
        result[f"steps-{new}-on-{old}"] = Case(ids.STEPS, new, raw, base, 7, 0, old)
    return result


def _packed(values: Sequence[int], width: int) -> bytes:
    return np.array(values, f"<u{width}").tobytes()


def _special(name: str) -> list[int]:
    """Return bits where conversions differ: NaNs, infinity, ties, and the ends of each dtype."""
    kind = dtype_named(name)
    if kind.width == 1:
        return list(range(256))
    bias, high = (1 << kind.exponent - 1) - 1, (1 << kind.exponent) - 1
    ends = {bias + end for end in _ENDS} | {0, high - 1, high}
    mantissas = {0, 1, (1 << kind.mantissa) - 1}
    for kept in (2, 3, 7, 10, 23):  # a tie where so many bits stay, with an even and an odd below
        if kept < kind.mantissa:
            tie = 1 << kind.mantissa - kept - 1
            mantissas |= {tie, 3 * tie, tie + 1}
    return [
        (sign << kind.exponent | exponent) << kind.mantissa | mantissa
        for exponent in sorted(ends & set(range(high + 1)))
        for mantissa in sorted(mantissas)
        for sign in (0, 1)
    ]


_ENDS = (-1074, -1022, -149, -133, -126, -24, -16, -14, -9, -6, 0, 8, 15, 16, 127, 128)
"""Exponents of the smallest and largest numbers of the dtypes, and some beyond."""


# --- products

_RANK, _ROWS, _ACROSS = 5, 21, 29


def _products() -> dict[str, Case]:
    """Return blobs of all kinds of products, and the factors, each in a frame of its own."""
    f32, f16, bf16, u16, u8 = (dtype_named(name) for name in ("F32", "F16", "BF16", "U16", "U8"))
    exponents, low = (-19, -22, -21, -128, -20), (-22, -25, -24, -128, -23)
    recipes = {
        "BF16": Recipe(_RANK, _ACROSS, f32, f32, 1.7),
        "BF16-integers": Recipe(_RANK, _ACROSS, u8, u16, left_by_rank=True, exponents=low),
        "F16": Recipe(
            *(_RANK, _ACROSS, u16, u8, -0.3, f32, f32, f16),
            *(False, True, exponents),
        ),
        "F32": Recipe(_RANK, _ACROSS, f16, bf16, 0.1, f16, bf16, bf16),
        "BF16-halves": Recipe(_RANK, _ACROSS, bf16, f16, 3.0, bf16, f16, f16, True, True),
    }
    result = {}
    for seed, (name, recipe) in enumerate(recipes.items(), start=200):
        dtype = name.split("-")[0]
        factors = _factor(recipe.left, _ROWS, seed), _factor(recipe.right, _ACROSS, seed + 50)
        base = _bits(dtype, seed + 70, _ROWS * _ACROSS)
        result[f"entropy-left-{name}"] = Case(ids.ENTROPY, recipe.left.name, factors[0])
        result[f"entropy-right-{name}"] = Case(ids.ENTROPY, recipe.right.name, factors[1])
        result[f"entropy-under-{name}"] = Case(ids.ENTROPY, dtype, base.tobytes())
        result[f"lowrank-{name}"] = near_product(recipe, dtype, base.tobytes(), factors)
    return {**result, **_odd_products(recipes["BF16"], result)}


def _odd_products(recipe: Recipe, others: dict[str, Case]) -> dict[str, Case]:
    """Return products with what is no number, on other bases, and with factors that have bases."""
    plain = others["lowrank-BF16"]
    wild = np.array([0x7F800000, 0xFF7FFFFF, 0x7FC00001, 0x00000001, 0x7F7FFFFF], "<u4")
    right = np.frombuffer(plain.factors[1], "<u4").copy()
    right[: 9 * wild.size : 9] = wild
    changed = (np.frombuffer(plain.factors[0], "<u4") + 1).astype("<u4")
    special = np.resize(np.array(_special("BF16"), "<u2"), _ROWS * _ACROSS).tobytes()
    short, deep = special[:700], (changed.tobytes(), plain.factors[1])
    f16, bf16 = dtype_named("F16"), dtype_named("BF16")
    halves = Recipe(_RANK, _ACROSS, recipe.left, recipe.right, 0.5, f16, f16, bf16)
    sides = (plain.factors[0], right.tobytes())
    return {
        "entropy-right-wild": Case(ids.ENTROPY, "F32", right.tobytes()),
        "entropy-under-special": Case(ids.ENTROPY, "BF16", special),
        "entropy-under-short": Case(ids.ENTROPY, "BF16", short),
        "steps-left": Case(ids.STEPS, "F32", changed.tobytes(), plain.factors[0]),
        "lowrank-special": near_product(halves, "BF16", special, sides),
        "lowrank-on-head": near_product(recipe, "BF16", short, plain.factors),
        "lowrank-F32-on-BF16": near_product(recipe, "F32", special, deep, "BF16"),
    }


def near_product(
    recipe: Recipe, dtype: str, base: bytes, factors: tuple[bytes, bytes], base_dtype: str = ""
) -> Case:
    """Return a blob that is a product in its first 129 values, and near one in the others."""
    old, new = dtype_named(base_dtype or dtype), dtype_named(dtype)
    count = len(factors[0]) // recipe.left.width // recipe.rank * recipe.columns
    values = SLOW[old.code].unpacked(base)[:count]
    if old is not new:
        values = [converted(value, SLOW[old.code], SLOW[new.code]) for value in values]
    blobs = {bytes.fromhex(digest_of(raw)): raw for raw in factors}
    case = Case(ids.LOWRANK, dtype, b"", base, 7, recipe.columns, base_dtype, recipe, factors)
    names = case.names()
    last = b"" if names is None else names.to_bytes()
    merged = predicted(values, new.code, count * new.width, last, blobs.__getitem__, set())
    merged += [value & 0x3FFF for value in range(count - len(merged))]
    raw = [value ^ (index > 128 and index % 7 == 0) for index, value in enumerate(merged)]
    return replace(case, raw=_packed(raw, new.width))


def _factor(kind: DType, width: int, seed: int) -> bytes:
    count = _RANK * width
    return (_bits(kind.name, seed, count) if kind.is_float else _whole(kind, seed, count)).tobytes()


def _whole(kind: DType, seed: int, count: int) -> np.ndarray:
    """Return integers as factors have them."""
    most = 100 if kind.width == 1 else 3000
    return (np.abs(numbers(4, seed, count).view("<f4")) * 64 * most).astype(f"<u{kind.width}")


def _bits(name: str, seed: int, count: int) -> np.ndarray:
    """Return floats of ordinary size."""
    if name == "F16":
        return (numbers(4, seed, count).view("<f4") * 8).astype("<f2").view("<u2")
    return numbers(dtype_named(name).width, seed, count)


def encode(store: BlobStore, case: Case) -> None:
    """Give the store a frame of this case."""
    digest, dtype = digest_of(case.raw), dtype_named(case.dtype)
    with ExitStack() as stack:

        def reader(name: Digest) -> BlobReader:
            return stack.enter_context(opened(store.path, name))

        choice = Choice(case.codec)
        if case.base is not None:
            base_dtype = dtype_named(case.base_dtype) if case.base_dtype else None
            choice = Choice(case.codec, reader(digest_of(case.base)), base_dtype)
        names = case.names()
        if names is not None:
            factors = OpenFactors(names, reader(names.left), reader(names.right))
            choice = replace(choice, factors=factors)
        source = BytesSource(case.raw)
        encoding = Encoding(digest, source, dtype, choice, case.block_log2, columns=case.columns)
        encoding.write(store.path(digest), 1)


def write(directory: Path) -> None:
    """Write the golden frames that ``directory`` does not have."""
    with tempfile.TemporaryDirectory() as scratch:
        store = BlobStore(Path(scratch))
        store.create()
        for name, case in cases().items():
            frame, target = store.path(digest_of(case.raw)), directory / f"{name}.frame"
            if target.exists():
                frame.write_bytes(target.read_bytes())
            else:
                encode(store, case)
                target.write_bytes(frame.read_bytes())


if __name__ == "__main__":
    write(FRAMES)
