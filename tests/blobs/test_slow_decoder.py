"""The page `docs/format.md` suffices: a decoder written from it alone reads what mstore writes."""

from __future__ import annotations

import ast
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from blake3 import blake3
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelstore.blobs import BlobStore
from modelstore.codecs import ids
from modelstore.codecs.base import PayloadError
from modelstore.codecs.blocks import decode_block
from modelstore.codecs.factors import Recipe
from modelstore.codecs.ids import CODEC_INFOS
from modelstore.hashing import digest_of
from modelstore.numeric import DTYPES, DType, dtype_named
from tests.blobs.conftest import resealed, store_at
from tests.blobs.golden import FRAMES, Case, cases, encode, near_product
from tests.contracts.codec import special_values
from tests.slow_conversion import converted, convertible
from tests.slow_decoder import MAGIC, TAKES_BASE, base_values, block_of, decode, header_of
from tests.slow_parts import DTYPES as SLOW
from tests.slow_parts import Cursor, DamagedError, NewerError, RefusedError
from tests.strategies import damaged

ROOT = Path(__file__).parent.parent
GOLDEN = sorted(FRAMES.glob("*.frame"))
CODECS = [info for info in CODEC_INFOS if info.id in TAKES_BASE]
BASES = {blake3(case.raw).digest(): case.raw for case in cases().values()}

NEVER_WRITTEN = {"block: coded by codec 0", "steps: classes from 256 on"}
"""Rules that no frame of mstore's needs; the last tests do."""

FACTORS, FLAGS = (2, 4, 13, 14, 15), ("left by rank", "right by column", "exponents")

RULES = {
    *("frame: no blocks", "frame: depth over 1", "frame: base of more values"),
    *(f"codec {info.id}" for info in CODECS),
    *(f"dtype {dtype.code}" for dtype in DTYPES),
    *(f"converted {way} {code}" for way in ("from", "to") for code in (10, 11, 13, 14, 15, 16)),
    *("block: raw", "block: constant", "block: same"),
    *(f"block: coded by codec {info.id}" for info in CODECS),
    *("plane: constant", "plane: raw", "plane: zstd"),
    *("differences: no base values", "differences: fewer base values"),
    *(f"entropy plane: {how}" for how in ("constant", "raw", "bytes", "pairs")),
    *("pairs: escapes", "pairs: no escapes", "pairs: odd", "pairs: even"),
    *("steps: no base values", "steps: fewer base values"),
    *("steps: columns", "steps: no columns", "steps: phase", "steps: rests"),
    *("steps: several contexts", "steps: classes from 256 on"),
    *("rANS: several sections", "rANS: unused states"),
    *(f"product: {side} of dtype {code}" for side in ("left", "right") for code in FACTORS),
    *(f"product: {step} is {code}" for step in "APU" for code in (13, 14, 15)),
    *(f"product: {flag}: {on}" for flag in FLAGS for on in ("yes", "no")),
    *("product: no number", "product: base is no number", "product: infinity"),
}
"""What the page says that not every frame needs, in the words of the slow decoder."""


def test_knows_nothing_of_mstore():
    """No module of the slow decoder imports mstore, or anything that is quick with numbers."""
    found = set()
    for path in ROOT.glob("slow_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
    assert {"zstandard", "blake3", "struct"} <= found
    assert not found & {"modelstore", "numpy", "numba"}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_frames_decode(path: Path):
    """Every golden frame gives the bytes that it was made of."""
    assert decode(path.read_bytes(), BASES.__getitem__) == cases()[path.stem].raw


def test_every_rule_is_needed_by_a_golden_frame():
    """What the page allows is pinned by a frame, unless it is known that mstore never writes it."""
    met: set[str] = set()
    for path in GOLDEN:
        decode(path.read_bytes(), BASES.__getitem__, met)
    assert met == RULES - NEVER_WRITTEN


# --- damage


def payloads_of(frame: bytes) -> list[bytes]:
    """Return the encoded blocks of an intact frame, and the last block of one of lowrank."""
    count = struct.unpack_from("<I", frame, 32)[0]
    lengths = [struct.unpack_from("<I", frame, 128 + 20 * index)[0] for index in range(count)]
    starts = [144 + 20 * count + sum(lengths[:index]) for index in range(count)]
    return [frame[at : at + length] for at, length in zip(starts, lengths, strict=True)]


def sealed(fields: bytes, payloads: list[bytes]) -> bytes:
    """Return the frame of the first 128 bytes of a header and of blocks; all checksums fit."""
    table = [struct.pack("<I", len(data)) + blake3(data).digest()[:16] for data in payloads]
    header = fields + b"".join(table)
    return header + blake3(header).digest()[:16] + b"".join(payloads)


WHOLE = ["raw", "zstd", "delta-BF16", "entropy-prefix", "steps-BF16", "lowrank-F16"]


@pytest.mark.parametrize("name", WHOLE)
def test_refuses_every_damaged_byte(name: str):
    """No byte of a frame can change, and none can be lost or added, without being noticed."""
    frame = (FRAMES / f"{name}.frame").read_bytes()
    for place in range(0, len(frame), 7):
        changed = frame[:place] + bytes([frame[place] ^ 4]) + frame[place + 1 :]
        for wrong in (changed, frame[:place]):
            with pytest.raises(DamagedError):
                decode(wrong, BASES.__getitem__)
    with pytest.raises(DamagedError):
        decode(frame + b"\0", BASES.__getitem__)


RESEALED = ["delta-BF16", "entropy-F32", "steps-F16", "steps-on-prefix", "lowrank-BF16-integers"]


@given(data=st.data())
@settings(max_examples=300)
def test_refuses_damage_whose_checksums_fit(data: st.DataObject):
    """With checksums that fit, what is damaged is refused by a rule, or means the same bytes."""
    name = data.draw(st.sampled_from(RESEALED))
    frame = (FRAMES / f"{name}.frame").read_bytes()
    payloads = payloads_of(frame)
    index = data.draw(st.integers(0, len(payloads) - 1))
    changed = bytearray(payloads[index])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    payloads[index] = bytes(changed)
    try:
        raw = decode(sealed(frame[:128], payloads), BASES.__getitem__)
    except (DamagedError, KeyError):  # or another factor, which is not there
        return
    assert raw == cases()[name].raw


SMALL = [path for path in GOLDEN if 144 < path.stat().st_size < 4000]


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_agrees_with_mstore_about_damage(data: st.DataObject):
    """A damaged block, or a damaged zstd frame in it, is refused by both decoders or by neither."""
    frame = data.draw(st.sampled_from(SMALL)).read_bytes()
    header = header_of(frame)
    dtype, info = SLOW[header.dtype], CODEC_INFOS[header.codec]
    index = data.draw(st.integers(0, header.blocks - 1))
    payload = data.draw(damaged_blocks(payloads_of(frame)[index]))
    start, count = index << header.block_log2, header.counts[index]
    base = base_values(header, BASES.__getitem__)[start : start + count]
    size, base_raw = count * dtype.width, dtype.packed(base) if info.takes_base else None
    try:
        expected = block_of(Cursor(payload), info.id, dtype, count, base)
    except DamagedError:
        with pytest.raises(PayloadError):
            decode_block(info, payload, size, DTYPES[header.dtype], base_raw)
        return
    assert decode_block(info, payload, size, DTYPES[header.dtype], base_raw) == expected


@st.composite
def damaged_blocks(draw: st.DrawFn, payload: bytes) -> bytes:
    """Damage an encoded block, or what a zstd frame in it holds."""
    place = payload.find(zstandard.MAGIC_NUMBER.to_bytes(4, "little"))
    if place < 4 or draw(st.booleans()):
        return draw(damaged(payload))
    stop = place + struct.unpack_from("<I", payload, place - 4)[0]
    content = draw(damaged(zstandard.decompress(payload[place:stop])))
    packed = zstandard.compress(content)
    return payload[: place - 4] + struct.pack("<I", len(packed)) + packed + payload[stop:]


def test_refuses_another_base():
    """A base that has not the size that the header says is refused."""
    frame = (FRAMES / "steps-BF16.frame").read_bytes()
    with pytest.raises(DamagedError):
        decode(frame, lambda _: b"")


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        *((8, b"\x63", NewerError), (10, b"\x63", NewerError), (11, b"\x07", NewerError)),
        *((13, b"\x01", NewerError), (14, b"\x01", NewerError), (63, b"\x01", NewerError)),
        *((0, b"\x88", DamagedError), (8, b"\x02", DamagedError), (9, b"\x00", DamagedError)),
        *((9, b"\x10", DamagedError), (12, b"\x17", DamagedError), (12, b"\x09", DamagedError)),
        *((16, b"\xff", DamagedError), (24, b"\x02", DamagedError), (96, bytes(32), DamagedError)),
    ],
)
def test_refuses_headers(place: int, value: bytes, error: type[RefusedError]):
    """A header that breaks a rule is damaged, and one that says something unknown is newer."""
    frame = (FRAMES / "delta-BF16.frame").read_bytes()
    with pytest.raises(error):
        decode(resealed(frame, place, value), BASES.__getitem__)


# --- frames that mstore writes now


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    """An empty store that all examples of the properties share."""
    return store_at(tmp_path_factory.mktemp("fresh") / ".mstore", threads=1)


def random_values(rng: np.random.Generator, dtype: DType, count: int) -> list[int]:
    """Return values of a few kinds, most of them alike, some such as codecs tend to lose."""
    special = sorted(set(special_values(dtype)))
    usual = [
        int(rng.integers(1 << 8 * dtype.width, dtype="u8")) for _ in range(rng.integers(1, 40))
    ]
    rare = rng.random(count) < 0.05
    chosen = np.where(rare, rng.choice(special, count), rng.choice(usual, count))
    return [int(value) for value in chosen]


def moved(rng: np.random.Generator, values: list[int], spread: int, columns: int) -> list[int]:
    """Return values some steps away from others; if there are columns, in half of them."""
    steps = rng.geometric(1 / spread, len(values)) - 1
    still = columns and np.arange(len(values)) % columns < columns // 2
    return [
        value + int(step) for value, step in zip(values, np.where(still, 0, steps), strict=True)
    ]


def packed(values: list[int], dtype: DType) -> bytes:
    """Return the raw bytes of values modulo 2 to the power of their bits."""
    mask = (1 << 8 * dtype.width) - 1
    return np.array([value & mask for value in values], f"<u{dtype.width}").tobytes()


def fresh_case(seed: int) -> Case:
    """Return what a small frame of some dtype and codec is made of."""
    rng = np.random.default_rng(seed)
    codec, dtype = CODECS[rng.integers(len(CODECS))], DTYPES[rng.integers(len(DTYPES))]
    count, spread = int(rng.integers(1, 2500)), int(rng.choice([1, 3, 40]))
    log2, columns = int(rng.integers(6, 12)), int(rng.choice([0, 7, 30]))
    if codec.takes_factors:
        return replace(fresh_product(rng), block_log2=log2)
    if not codec.takes_base:
        raw = packed(random_values(rng, dtype, count), dtype)
        return Case(codec, dtype.name, raw, None, log2, columns)
    kinds = [old for old in DTYPES if convertible(old.code, dtype.code)]
    old = kinds[rng.integers(len(kinds))]
    before = random_values(rng, old, count + 9)
    after = before[:count]
    if old.code != dtype.code:
        after = [converted(value, SLOW[old.code], SLOW[dtype.code]) for value in after]
    raw = packed(moved(rng, after, spread, columns), dtype)
    base = packed(before[: rng.choice([count // 2, count, count + 9])], old)
    return Case(codec, dtype.name, raw, base, log2, columns, old.name)


def fresh_product(rng: np.random.Generator) -> Case:
    """Return what a small frame of lowrank is made of, with any recipe and any bits."""
    names = ("F32", "F16", "BF16")
    left, right = (dtype_named(str(name)) for name in rng.choice((*names, "U8", "U16"), 2))
    rounded = (dtype_named(str(name)) for name in rng.choice(names, 3))
    rank, rows, columns = (int(most) for most in rng.integers(1, (7, 20, 40)))
    scale = float(np.float32(rng.choice([0.0, -1.7, 1e-6, 3e38])))
    by_rank, by_column, has_exponents = (bool(number) for number in rng.integers(2, size=3))
    exponents = tuple(rng.integers(-128, 128, rank).tolist()) if has_exponents else ()
    recipe = Recipe(rank, columns, left, right, scale, *rounded, by_rank, by_column, exponents)
    first = packed(random_values(rng, left, rows * rank), left)
    second = packed(random_values(rng, right, rank * columns), right)
    dtype = dtype_named(str(rng.choice(names)))
    kinds = [old for old in DTYPES if convertible(old.code, dtype.code)]
    old = kinds[rng.integers(len(kinds))]
    base = packed(random_values(rng, old, int(rng.integers(1, rows * columns + 9))), old)
    return near_product(recipe, dtype.name, base, (first, second), old.name)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    """A store that all examples of a property share."""
    return store_at(tmp_path_factory.mktemp("fresh") / ".mstore", threads=1)


def below(case: Case) -> list[bytes]:
    """Return the blobs that a case is built on."""
    base = [] if case.base is None else [case.base]
    return [*base, *(case.factors if case.recipe else ())]


def fresh_frame(store: BlobStore, case: Case) -> bytes:
    """Return the frame that mstore gives a case now, and leave the store as it was."""
    made = [*(Case(ids.RAW, "", raw) for raw in below(case)), case]
    paths = [store.path(digest_of(one.raw)) for one in made]
    try:
        for one in made:
            encode(store, one)
        return paths[-1].read_bytes()
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=250, deadline=None)
def test_decodes_what_mstore_writes(shared: BlobStore, seed: int):
    """Small blobs of every dtype and codec, on bases of every dtype, come back."""
    case = fresh_case(seed)
    known = {blake3(raw).digest(): raw for raw in below(case)}
    assume(blake3(case.raw).digest() not in known)
    assert decode(fresh_frame(shared, case), known.__getitem__) == case.raw


# --- frames that others may write


def crafted(codec: int, raw: bytes, payloads: list[bytes], base: bytes = b"") -> bytes:
    """Return a frame of literal bytes, as "Header" says, all in one block."""
    name, base_name = blake3(raw).digest(), blake3(base).digest() if base else bytes(32)
    fields = (MAGIC, codec, 1 if base else 0, 0, 0, 20, len(raw), len(base), len(payloads))
    return sealed(struct.pack("<8s5B3xQQI28x32s32s", *fields, name, base_name), payloads)


def test_raw_blocks_may_be_coded(store: BlobStore):
    """A block of the codec raw is the same in mode coded as in mode raw."""
    raw = b"as it is"
    check_both(store, crafted(0, raw, [b"\x03" + raw]), raw, None, "block: coded by codec 0")


def test_classes_are_counted_modulo_256(store: BlobStore):
    """The offset and the parts of a class may add up to more than 255; an encoder is in the page."""
    base = bytes(range(50)) * 12
    tokens = [index * index // 7 % 4 for index in range(600)]
    raw = bytes(old + (0, -1, 1, -2)[token] & 255 for old, token in zip(base, tokens, strict=True))
    contexts = bytes(1 if number == 44 else 0 for number in range(256))  # 44 = 200 + 100 - 256
    table = bytes([3]) + bytes(8) + bytes([16, 0, 0, 0, 4, 4, 4, 4])
    parts = bytes([100]) * 600 + bytes(1)  # of 600 rows and a column
    model = zstandard.compress(struct.pack("<II", 1, 0) + bytes([200]) + contexts + table + parts)
    body = struct.pack("<I", len(model)) + model + stream_of(tokens)
    frame = crafted(5, raw, [b"\x03" + body], base)
    check_both(store, frame, raw, base, "steps: classes from 256 on")


def stream_of(tokens: list[int]) -> bytes:
    """Return the rANS stream of symbols 0 to 3 of frequency 1024 each."""
    states, words = [1 << 16] * 8, b""
    for index in reversed(range(len(tokens))):
        state, start = states[index % 8], 1024 * tokens[index]
        while state >= 1024 << 36:
            words = struct.pack("<I", state & 0xFFFFFFFF) + words
            state >>= 32
        states[index % 8] = 4096 * (state // 1024) + state % 1024 + start
    head = struct.pack("<I", len(words) // 4)
    return head + b"".join(state.to_bytes(6, "little") for state in states) + words


def check_both(store: BlobStore, frame: bytes, raw: bytes, base: bytes | None, rule: str) -> None:
    """Check that the slow decoder and mstore decode a frame, and that it needs a rule."""
    met: set[str] = set()
    assert decode(frame, lambda _: base or b"", met) == raw
    assert rule in met
    assert rule in NEVER_WRITTEN
    if base is not None:
        encode(store, Case(ids.RAW, "", base))
    store.path(digest_of(raw)).write_bytes(frame)
    assert store.read(digest_of(raw)) == raw
