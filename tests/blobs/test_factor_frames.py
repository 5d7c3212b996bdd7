"""Frames that are built on factors: what is read, what is refused, and who notices damage."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelstore.blobs import BlobStore, BytesSource
from modelstore.blobs.frame import FrameHeader, check_frame
from modelstore.blobs.lineage import Lineage
from modelstore.blobs.source import FileSource
from modelstore.codecs import ids
from modelstore.codecs.factors import Recipe
from modelstore.errors import IntegrityError, NotFoundError
from modelstore.hashing import Digest, checksum, digest_of
from modelstore.numeric import dtype_named
from tests.blobs.conftest import damage, resealed
from tests.blobs.golden import FRAMES, Case, cases, encode
from tests.frames import put_frame

NAME = "lowrank-BF16"
CASE = cases()[NAME]
DIGEST = digest_of(CASE.raw)
LEFT, RIGHT = (digest_of(raw) for raw in CASE.factors)


@pytest.fixture
def merged(store: BlobStore) -> BlobStore:
    """A store that holds a golden frame of lowrank and all that it is built on."""
    for raw in (CASE.base or b"", *CASE.factors):
        encode(store, Case(ids.RAW, "", raw))
    store.path(DIGEST).write_bytes((FRAMES / f"{NAME}.frame").read_bytes())
    return store


def last_block(frame: bytes) -> int:
    """Return where the names of the factors begin."""
    count = struct.unpack_from("<I", frame, 32)[0]
    return len(frame) - int(struct.unpack_from("<I", frame, 128 + 20 * (count - 1))[0])


def with_last(frame: bytes, last: bytes) -> bytes:
    """Return the frame with another last block, and checksums that fit."""
    count = struct.unpack_from("<I", frame, 32)[0]
    entry = struct.pack("<I", len(last)) + checksum(last, 16)
    return resealed(frame[: last_block(frame)] + last, 128 + 20 * (count - 1), entry)


def change(store: BlobStore, changed: Callable[[bytes], bytes]) -> None:
    """Give the merged blob another last block."""
    path = store.path(DIGEST)
    frame = path.read_bytes()
    damage(path, with_last(frame, changed(frame[last_block(frame) :])))


def header_of(store: BlobStore, digest: Digest = DIGEST) -> FrameHeader:
    """Return the header of a frame."""
    return store.header(digest)


def test_a_header_names_all_that_a_frame_is_built_on(merged: BlobStore):
    """Base, left and right are told; the names are no block of values."""
    header = header_of(merged)
    assert header.built_on == (digest_of(CASE.base or b""), LEFT, RIGHT)
    assert header.codec == "lowrank"
    assert header.factors is not None
    assert Recipe.from_bytes(header.factors.recipe).rank == 5
    assert header.block_count == len(header.offsets) - 2
    assert merged.read(DIGEST) == CASE.raw


def test_a_changed_byte_of_the_names_is_damage(merged: BlobStore):
    """The names of factors are covered by a checksum that is verified with the header."""
    path = merged.path(DIGEST)
    frame = path.read_bytes()
    for place in range(last_block(frame), len(frame), 9):
        damage(path, frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :])
        with pytest.raises(IntegrityError):
            merged.header(DIGEST)
        with pytest.raises(IntegrityError):
            merged.check(DIGEST)


@pytest.mark.parametrize("length", [0, 64, 64 + 4097])
def test_names_of_a_wrong_length_are_refused(merged: BlobStore, length: int):
    """The last block has two names and a recipe of at most 4096 bytes."""
    change(merged, lambda last: (last * 60)[:length])
    with pytest.raises(IntegrityError, match="contradicts"):
        merged.header(DIGEST)


def test_a_frame_without_the_names_is_refused(merged: BlobStore):
    """A frame of lowrank whose only blocks are values contradicts itself."""
    encode(merged, cases()["entropy-under-BF16-halves"])
    other = merged.path(digest_of(cases()["entropy-under-BF16-halves"].raw))
    damage(other, resealed(other.read_bytes(), 8, bytes([ids.LOWRANK.id])))
    with pytest.raises(IntegrityError):
        merged.header(Digest(other.name))


@pytest.mark.parametrize("side", [0, 32])
def test_a_blob_is_not_its_own_factor(merged: BlobStore, side: int):
    """A frame that names itself is refused before anything is decoded."""
    own = bytes.fromhex(DIGEST)
    change(merged, lambda last: last[:side] + own + last[side + 32 :])
    with pytest.raises(IntegrityError, match="built on itself"):
        merged.header(DIGEST)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((64, b"\x00\x00"), (64, b"\x01\x04"), (66, bytes(4)), (70, b"\x00\x00\xc0\x7f")),
        *((74, b"\x10"), (75, b"\x03"), (76, b"\x02"), (79, b"\x08"), (79, b"\x04")),
        *((66, b"\x1e"), (64, b"\x04"), (74, b"\x02")),
    ],
)
def test_recipes_that_cannot_be_are_refused(merged: BlobStore, place: int, value: bytes):
    """Ranks, columns, scales, dtypes and flags that break a rule, or fit no factor, are damage."""
    change(merged, lambda last: last[:place] + value + last[place + len(value) :])
    merged.check(DIGEST)
    with pytest.raises(IntegrityError, match="is damaged: "):
        merged.read(DIGEST)


@pytest.mark.parametrize("name", [LEFT, RIGHT])
def test_a_missing_factor_is_named(merged: BlobStore, name: Digest):
    """Without a factor nothing is decoded, and the error says what is missing for what."""
    merged.path(name).unlink()
    merged.check(DIGEST)
    assert not merged.is_sound(DIGEST)
    with pytest.raises(NotFoundError, match=f"'{name}' is missing, and blob '{DIGEST}'"):
        merged.read(DIGEST)


@pytest.mark.parametrize("name", [LEFT, RIGHT])
def test_damage_in_a_factor_is_noticed(merged: BlobStore, name: Digest):
    """A factor's blocks are checked with the frame that is built on it, and when it is decoded."""
    path = merged.path(name)
    data = path.read_bytes()
    damage(path, data[:-1] + bytes([data[-1] ^ 1]))
    assert not merged.is_sound(DIGEST)
    with pytest.raises(IntegrityError, match=name):
        merged.read(DIGEST)
    with FileSource(merged.path(DIGEST)) as source:
        check_frame(source, DIGEST)


def test_a_factor_of_a_smaller_matrix_is_refused(merged: BlobStore):
    """A left whose rows do not reach as far as the base is damage, and not a wrong prediction."""
    short = CASE.factors[0][:-20]
    encode(merged, Case(ids.RAW, "", short))
    change(merged, lambda last: bytes.fromhex(digest_of(short)) + last[32:])
    with pytest.raises(IntegrityError, match="smaller matrix"):
        merged.read(DIGEST)


def test_factors_of_another_size_are_refused(merged: BlobStore):
    """Left has whole rows, and right exactly its rank times its columns."""
    for side, raw in ((0, CASE.factors[0] + bytes(4)), (32, CASE.factors[1] + bytes(4))):
        encode(merged, Case(ids.RAW, "", raw))
        name = bytes.fromhex(digest_of(raw))
        before = merged.path(DIGEST).read_bytes()
        change(merged, lambda last, at=side, new=name: last[:at] + new + last[at + 32 :])
        with pytest.raises(IntegrityError, match="not of rank"):
            merged.read(DIGEST)
        damage(merged.path(DIGEST), before)


def test_a_factor_that_would_fill_the_memory_is_refused(merged: BlobStore):
    """A factor is held in memory as a whole, so it may not be much larger than what it is for."""
    large = bytes((1 << 18) + 4)
    encode(merged, Case(ids.RAW, "", large))
    change(merged, lambda last: bytes.fromhex(digest_of(large)) + last[32:])
    with pytest.raises(IntegrityError, match="do not fit together"):
        merged.read(DIGEST)


def test_a_factor_that_is_as_deep_is_refused(merged: BlobStore):
    """Depths shrink towards factors too, so no frame can be built on itself by way of one."""
    damage(merged.path(LEFT), b"")
    put_frame(merged, CASE.factors[0], ids.DELTA, RIGHT, dtype="F32")
    assert merged.header(LEFT).depth == merged.header(DIGEST).depth == 1
    with pytest.raises(IntegrityError, match="do not fit together"):
        merged.read(DIGEST)


def test_a_cycle_by_way_of_a_factor_ends(merged: BlobStore):
    """A factor that is built on the very frame it is a factor of is refused, whoever wrote it."""
    put_frame(merged, CASE.factors[0], ids.STEPS, DIGEST)
    assert merged.header(LEFT).built_on == (DIGEST,)
    for digest in (DIGEST, LEFT):
        assert not merged.is_sound(digest)
        with pytest.raises(IntegrityError, match="do not fit together"):
            merged.read(digest)


def test_only_floats_are_predicted(merged: BlobStore):
    """A product that is added to anything but F32, F16 and BF16 is refused."""
    frame = merged.path(DIGEST).read_bytes()
    code = bytes([dtype_named("I16").code])
    damage(merged.path(DIGEST), resealed(resealed(frame, 10, code), 11, code))
    with pytest.raises(IntegrityError, match="no product is added to values of I16"):
        merged.read(DIGEST)


def test_factors_never_become_deeper(merged: BlobStore):
    """The lineage counts factors among the blobs that others are built on."""
    lineage = Lineage(merged)
    assert not any(lineage.may_become_deeper(name) for name in (LEFT, RIGHT))
    assert lineage.may_become_deeper(DIGEST)


def test_what_is_built_on_a_product_reads_it(merged: BlobStore):
    """A later version is steps from the merge, and its parts are read without the rest."""
    later = (np.frombuffer(CASE.raw, "<u2") ^ 1).astype("<u2").tobytes()
    header = put_frame(merged, later, ids.STEPS, DIGEST)
    assert header.depth == 2
    assert merged.read(header.digest) == later
    assert merged.read_range(header.digest, 100, 700) == later[100:700]


def test_a_transaction_may_rely_on_it(merged: BlobStore):
    """Adding a blob that is there as a product costs nothing; with a damaged factor it is healed."""
    with merged.transaction() as transaction:
        assert transaction.add(DIGEST, BytesSource(CASE.raw), dtype=dtype_named("BF16")).new == 0
    damage(merged.path(RIGHT), b"junk")
    with merged.transaction() as transaction:
        added = transaction.add(DIGEST, BytesSource(CASE.raw), dtype=dtype_named("BF16"))
        transaction.publish()
    assert added.new == 1
    assert header_of(merged).depth == 0
    assert merged.read(DIGEST) == CASE.raw


_PROGRAM = """
import sys
if {without_numba}:
    sys.modules["numba"] = None
from pathlib import Path
from modelstore.blobs import BlobStore
from modelstore.codecs import prediction
from modelstore.hashing import digest_of
from tests.blobs.golden import FRAMES, cases
prediction._twins.left = 2 ** 62 if {without_numba} else 1
store = BlobStore(Path(sys.argv[1]))
store.create()
for path in FRAMES.glob("*.frame"):
    store.path(path.read_bytes()[64:96].hex()).write_bytes(path.read_bytes())
names = [name for name in cases() if name.startswith("lowrank")]
for name in names:
    assert store.read(digest_of(cases()[name].raw)) == cases()[name].raw, name
print(len(names))
"""


@pytest.mark.parametrize("processor", ["generic", "none"])
def test_golden_frames_on_other_processors(tmp_path: Path, processor: str):
    """Compiled for any processor of this family, or not at all, golden frames are the same bytes."""
    settings = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    environment = {**os.environ, **(settings if processor == "generic" else {})}
    program = _PROGRAM.format(without_numba=processor == "none")
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert int(done.stdout) == sum(name.startswith("lowrank") for name in cases())
