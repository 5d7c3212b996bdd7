"""Frames with right checksums that lie: of sizes, of depths, of what they are built on."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.canonical import canonical
from modelstore.codecs import ids
from modelstore.errors import BadNameError, IntegrityError, StoreError
from modelstore.hashing import Digest, check_digests, digest_of, parse_digest
from modelstore.manifest import BlobSpan, FileEntry, Manifest, decode, encode
from modelstore.names import digest_prefix
from modelstore.ops.checkout import checkout
from modelstore.ops.resolve import resolve
from modelstore.store import Store
from modelstore.view import check_versions
from tests.hostile.forged import CONSTANT, MODEL, file_of, frame, plant, put

NAMES = [digest_of(bytes([n])) for n in range(20)]
RAW_BLOCK = b"\0data"
SAME = b"\2"
"""A block that is the same as the base's."""


def claim(store: Store, **fields: object) -> None:
    """Put a frame that claims these fields, and check that reading it is an integrity error."""
    given = {"blocks": [RAW_BLOCK], "raw_size": 4, **fields}
    put(store, NAMES[0], frame(NAMES[0], **given))  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        store.blobs.read(NAMES[0])
    with pytest.raises(IntegrityError):
        store.blobs.read_range(NAMES[0], 0, 1)


@pytest.mark.parametrize("raw_size", [0, 3, 5, 1 << 20, 1 << 60, (1 << 64) - 1])
@pytest.mark.parametrize("block_log2", [0, 20, 22, 23, 63, 255])
def test_sizes_that_are_not(store: Store, raw_size: int, block_log2: int) -> None:
    """A size that the blocks cannot have is refused before memory is taken for it."""
    claim(store, raw_size=raw_size, block_log2=block_log2)


@pytest.mark.parametrize("count", [0, 2, 1 << 20, (1 << 20) + 1, (1 << 32) - 1])
def test_counts_of_blocks_that_are_not(store: Store, count: int) -> None:
    """So is a table that the file does not have."""
    claim(store, count=count)


def test_a_table_that_a_sparse_file_has(store: Store) -> None:
    """A file of holes may be as long as its header claims; there is a limit to headers too."""
    data = frame(NAMES[0], [], raw_size=1 << 40, count=1 << 31)
    path = store.blobs.path(NAMES[0])
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.truncate(1 << 36)
    with pytest.raises(IntegrityError, match="claims 2147483648 blocks"):
        store.blobs.header(NAMES[0])


@pytest.mark.parametrize("size", [1, 3, 5, 1 << 30, (1 << 62) - 1])
def test_zstd_frames_that_claim_another_size(store: Store, size: int) -> None:
    """The content size of a zstd frame must be that of the block."""
    head = b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little")  # RFC 8878, section 3.1.1.1
    block = b"\3" + head + b"\x01\0\0"
    claim(store, codec=ids.ZSTD, blocks=[block], raw_size=max(len(block), 64))


def test_a_small_frame_does_not_fill_the_disk(store: Store, tmp_path: Path) -> None:
    """A blob that gives terabytes where a manifest says four bytes is cut off at once."""
    name, blocks = NAMES[0], 1 << 12
    put(store, name, frame(name, [CONSTANT + b"x"] * blocks, raw_size=blocks << 22, block_log2=22))
    assert store.blobs.header(name).raw_size == 1 << 34
    span = BlobSpan(name, 4)
    file = FileEntry("model.bin", 4, name, "0" * 64, "", "opaque", False, (span,))
    plant(store, {"v1.0": Manifest((file,))})
    with pytest.raises(IntegrityError):
        checkout(store, resolve(store, "m@v1.0"), output=tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())
    with pytest.raises(IntegrityError, match="the most"):
        store.blobs.read(name, most=4)


def test_a_manifest_that_gives_terabytes(store: Store) -> None:
    """A registered id may name any frame: only as much as a manifest may have is read."""
    plant(store, {"v1.0": Manifest((file_of("a"),))})
    entry = resolve(store, "m@v1.0").entry
    assert entry.id is not None
    blocks = [CONSTANT + b"{"] * 64
    put(store, entry.id, frame(entry.id, blocks, raw_size=64 << 22, block_log2=22))
    with pytest.raises(IntegrityError, match="the most"):
        store.manifest(MODEL, entry)


# --- what they are built on


def link(store: Store, name: Digest, base: Digest | None, depth: int, size: int = 4) -> None:
    """Put a frame that is the same as its base."""
    data = frame(
        *(name, [SAME]), codec=ids.DELTA, raw_size=size, depth=depth, base=base, base_size=size
    )
    put(store, name, data)


def test_a_frame_that_is_built_on_itself(store: Store) -> None:
    """It is refused, whatever depth it claims."""
    for depth in (0, 1, 15, 255):
        link(store, NAMES[0], NAMES[0], depth)
        with pytest.raises(IntegrityError):
            store.blobs.read(NAMES[0])


@pytest.mark.parametrize("length", [2, 3, 7, 16])
@pytest.mark.parametrize("depths", ["falling", "equal", "rising"])
def test_frames_in_a_ring(store: Store, length: int, depths: str) -> None:
    """Depths cannot fall all the way round a ring."""
    for n in range(length):
        depth = {"falling": 15 - n, "equal": 5, "rising": n + 1}[depths]
        link(store, NAMES[n], NAMES[(n + 1) % length], max(1, depth))
    for n in range(length):
        with pytest.raises(IntegrityError):
            store.blobs.read(NAMES[n])
        assert not store.blobs.is_sound(NAMES[n])


@pytest.mark.parametrize("depth", [0, 16, 200, 255])
def test_depths_that_cannot_be(store: Store, depth: int) -> None:
    """A frame with a base is 1 to 15 deep."""
    put(store, NAMES[1], frame(NAMES[1], [RAW_BLOCK], raw_size=4))
    link(store, NAMES[0], NAMES[1], depth)
    with pytest.raises(IntegrityError):
        store.blobs.header(NAMES[0])


def test_a_base_of_another_size(store: Store) -> None:
    """What a frame says of its base must be so."""
    put(store, NAMES[1], frame(NAMES[1], [RAW_BLOCK + b"x"], raw_size=5))
    link(store, NAMES[0], NAMES[1], 1)
    with pytest.raises(IntegrityError, match="do not fit"):
        store.blobs.read(NAMES[0])


def test_a_base_without_a_codec_for_it(store: Store) -> None:
    """Nor may a frame name a base that its codec does not take, or lack the one that it does."""
    claim(store, codec=ids.RAW, base=NAMES[1], base_size=4, depth=1)
    claim(store, codec=ids.DELTA, base=None, depth=0)


def test_a_pyramid_of_factors(store: Store) -> None:
    """Fifteen levels of frames that name three each would be fourteen million to open."""
    recipe = b"\1\0" + b"\1\0\0\0" + b"\0\0\x80\x3f" + bytes((2, 2, 15, 15, 15, 0))
    put(store, NAMES[0], frame(NAMES[0], [RAW_BLOCK], raw_size=4))
    for depth in range(1, 16):
        below, name = NAMES[depth - 1], NAMES[depth]
        factors = bytes.fromhex(below) * 2 + recipe
        data = frame(
            *(name, [SAME, factors]),
            codec=ids.LOWRANK,
            raw_size=4,
            depth=depth,
            base=below,
            base_size=4,
        )
        put(store, name, data)
    store.blobs.header(NAMES[15])
    with pytest.raises(IntegrityError, match="more than 256 frames"):
        store.blobs.read(NAMES[15])


def test_a_factor_too_large_to_hold(store: Store) -> None:
    """A factor is held in memory as a whole: one of 128 MiB is refused, however few bytes it takes."""
    size, log2 = 1 << 27, 22
    blocks = size >> log2
    recipe = b"\1\0" + b"\1\0\0\0" + b"\0\0\x80\x3f" + bytes((2, 2, 15, 15, 15, 0))
    below = frame(NAMES[0], [CONSTANT + b"x"] * blocks, raw_size=size, block_log2=log2)
    put(store, NAMES[0], below)
    rows = [SAME] * blocks + [bytes.fromhex(NAMES[0]) * 2 + recipe]
    child = {"raw_size": size, "block_log2": log2, "depth": 1, "base_size": size}
    put(store, NAMES[1], frame(NAMES[1], rows, codec=ids.LOWRANK, base=NAMES[0], **child))
    store.blobs.header(NAMES[1])
    with pytest.raises(IntegrityError, match="do not fit"):
        store.blobs.read_range(NAMES[1], 0, 1)


# --- names that are not


BAD_IDS = [
    *(NAMES[0].upper(), NAMES[0] + "\n", NAMES[0][:-1], NAMES[0] + "0", "", "..", "../" * 21 + "x"),
    *("b3:" + NAMES[0], "sha256:" + NAMES[0], " " + NAMES[0][1:], NAMES[0][:-1] + "\0", "g" * 64),
    *("\uff10" * 64, "\u0660" * 64, "\uff41" * 64, "0x" + "0" * 62, "-" + "0" * 63, "0_" * 32),
]


@pytest.mark.parametrize("name", BAD_IDS)
def test_ids_that_are_not(store: Store, name: str) -> None:
    """Nothing but 64 lower-case hex digits names a blob: in manifests, registries and refs."""
    for refuse in (parse_digest, lambda text: check_digests([NAMES[0], text])):
        with pytest.raises(BadNameError):
            refuse(name)
    good = encode(Manifest((file_of("a"),), parents=(NAMES[0],)))
    for old in (NAMES[0], digest_of(b"data")):
        bad = good.replace(canonical(old), canonical(name))
        with pytest.raises(IntegrityError):
            decode(bad)
    for entry in ({"id": name}, {"parents": [name]}, {"parents": [NAMES[0], name]}):
        with pytest.raises(ValueError, match="digest"):
            check_versions({"v1.0": entry})
    if name and name not in ("b3:" + NAMES[0], NAMES[0][:-1]):  # ACTIVE, and two ways to write it
        assert digest_prefix(name) is None
        plant(store, {"v1.0": Manifest((file_of("a"),))})
        with pytest.raises(StoreError):
            resolve(store, f"m@{name}")


def test_files_that_are_no_blobs_are_not_listed(store: Store) -> None:
    """What lies among the blobs under another name is none."""
    with store.blobs.transaction() as transaction:
        kept = transaction.add_bytes(b"data")
        transaction.publish()
    directory = store.blobs.path(kept).parent
    for name in (kept.upper(), kept + ".tmp", kept[:-1], "README", NAMES[0]):
        if not (directory / name).exists():
            (directory / name).write_bytes(b"x")
    expected = {kept} | ({NAMES[0]} if NAMES[0][:2] == kept[:2] else set())
    assert set(store.blobs.iter_digests()) == expected
