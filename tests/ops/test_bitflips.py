"""One flipped bit anywhere in a store: fsck --full finds every one, and no read returns wrong bytes.

With `-rP` the figures are shown; `BITFLIPS=6` flips more of them.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelstore import registry as registry_module
from modelstore.blobs.frame import CHECKSUM_SIZE, header_size
from modelstore.codecs import ids
from modelstore.errors import StoreError
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.pointer import set_active
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from tests.builders import safetensors_bytes
from tests.frames import put_frame
from tests.loras import write_merge
from tests.models import weights, write_model

MERGES = ModelName("merges")
STEPS = ModelName("steps")
EACH = int(os.environ.get("BITFLIPS", "1"))
"""Bits that are flipped in each region."""

REGIONS = (
    *((0, 8), (8, 9), (9, 10), (10, 11), (11, 12), (12, 13), (13, 14), (14, 16), (16, 24)),
    *((24, 32), (32, 36), (36, 64), (64, 96), (96, 128)),
)
"""The fields of a frame's header, as docs/format.md has them."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with frames of every codec, and with whole states among its records."""
    place = tmp_path_factory.mktemp("bits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_module, "COMPACT_EVERY", 4)
        store = create(place / "store")
        files = write_merge(place / "merges")
        commit(store, files / "base", MERGES, CommitOptions())
        commit(store, files / "merged", MERGES, CommitOptions(adapter=files / "adapter"))
        for number in range(2):
            data = safetensors_bytes(weights(1, step=1e-4 * number, dtype="BF16"))
            source = write_model(place / str(number), files={"model.safetensors": data})
            commit(store, source, STEPS, CommitOptions(message=str(number)))
        for number in (1, 0, 1, 0):
            set_active(store, resolve(store, f"steps@v1.{number}"))
        _every_codec(store)
        assert fsck(store, Level.FULL).findings == ()
        yield store


def _every_codec(store: Store) -> None:
    """Give tensors of the second model frames of the codecs that a commit did not choose."""
    old, new = (
        [s.blob for _, s, _ in store.manifest(STEPS, resolve(store, ref).entry).tensors()]
        for ref in ("steps@v1.0", "steps@v1.1")
    )
    for digest, codec in zip(old, (ids.RAW, ids.ZSTD, ids.PLANES), strict=True):
        put_frame(store.blobs, store.blobs.read(digest), codec)
    kinds = ((ids.DELTA, old[0]), (ids.STEPS, old[1]), (ids.ENTROPY, None))
    for digest, (codec, base) in zip(new, kinds, strict=True):
        put_frame(store.blobs, store.blobs.read(digest), codec, base)
    codecs = {store.blobs.header(digest).codec for digest in store.blobs.iter_digests()}
    assert codecs == {info.name for info in ids.CODEC_INFOS}


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """Flip one bit of a file for the length of the block."""
    data = path.read_bytes()
    broken = bytearray(data)
    broken[bit // 8] ^= 1 << bit % 8
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(broken)
    try:
        yield
    finally:
        path.write_bytes(data)
        path.chmod(mode)


def bits_of(path: Path, regions: Iterator[tuple[int, int]] | None = None) -> list[int]:
    """Return some bits of each region of a file, the same ones every time."""
    chance = random.Random(path.name)
    size = path.stat().st_size
    found = set()
    for start, stop in regions or ((n * size // 8, (n + 1) * size // 8) for n in range(8)):
        for _ in range(EACH if stop > start else 0):
            found.add(chance.randrange(8 * start, 8 * stop))
    return sorted(found)


def frame_regions(path: Path, blocks: int) -> Iterator[tuple[int, int]]:
    """Yield the regions of a frame: fields, lengths and checksums of the table, blocks, ends."""
    yield from REGIONS
    end, size = header_size(blocks), path.stat().st_size
    for start in range(128, end - CHECKSUM_SIZE, 20):
        yield from ((start, start + 4), (start + 4, start + 20))
    yield end - CHECKSUM_SIZE, end
    third = (size - end) // 3
    yield from ((end, end + third), (end + third, size - third), (size - third, size))


def one_of_each(store: Store) -> dict[str, Digest]:
    """Return a frame of every codec, and a manifest's."""
    found = {"manifest": resolve(store, "steps@v1.1").id}
    for digest in store.blobs.iter_digests():
        header = store.blobs.header(digest)
        if header.raw_size:
            found.setdefault(header.codec, digest)
    assert len(found) == len(ids.CODEC_INFOS) + 1
    return {kind: digest for kind, digest in found.items() if digest is not None}


@pytest.mark.parametrize("kind", ["manifest", *(info.name for info in ids.CODEC_INFOS)])
def test_a_bit_of_a_frame(store: Store, kind: str) -> None:
    """It is found and named, and the blob is not served."""
    digest = one_of_each(store)[kind]
    path = store.blobs.path(digest)
    header = store.blobs.header(digest)
    bits = bits_of(path, frame_regions(path, len(header.offsets) - 1))
    for bit in bits:
        with flipped(path, bit):
            names = {one.name for one in fsck(store, Level.FULL).problems}
            assert digest in names, f"bit {bit} of a frame of {kind}"
            with pytest.raises(StoreError):
                store.blobs.read(digest)
            assert not store.blobs.is_sound(digest)
    print(f"{len(bits)} bits of a frame of {kind}: all found, none served")


def small_files(store: Store) -> list[Path]:
    """Return a file of every other kind: settings, records, whole states, views, generated files."""
    refs = sorted((store.meta / "refs/steps").iterdir())
    home = store.root / "steps"
    version = [home / "v1.1" / name for name in ("manifest.json", "model_info.json", "README.md")]
    settings = [store.meta / "format.json", store.meta / "config.json"]
    return [*settings, *refs, home / "model_registry.json", home / "journal.jsonl", *version]


def test_a_bit_of_any_other_file(store: Store) -> None:
    """It is found, and the registry says what it said or refuses; nothing else is ever said."""
    documents = {model: store.state(model).document for model in store.models()}
    files = small_files(store)
    assert any(path.name.startswith("base-") for path in files)
    flips = 0
    for path in files:
        for bit in bits_of(path):
            flips += 1
            with flipped(path, bit):
                where = f"bit {bit} of {path}"
                try:
                    again = Store(store.root)
                except StoreError:
                    assert path.name == "format.json", where
                    continue
                found = fsck(again, Level.FULL).findings
                assert any(one.name.endswith(path.name) for one in found), where
                for model, document in documents.items():
                    assert again.state(model).document == document, where
    print(f"{flips} bits of {len(files)} other files: all found, none obeyed")


def test_bits_all_over_the_newest_record(store: Store) -> None:
    """Wherever the flipped bit is, the journal's copy is read instead."""
    path = max((store.meta / "refs/steps").glob("0*.json"))
    document = store.state(STEPS).document
    bits = range(0, 8 * path.stat().st_size, 1 if EACH > 1 else 5)
    for bit in bits:
        with flipped(path, bit):
            assert store.state(STEPS).document == document
            assert "fsck --repair" in store.state(STEPS).notice
    print(f"{len(bits)} bits of a record: read from the journal each time")


def test_nothing_was_left_changed(store: Store, tmp_path: Path) -> None:
    """The tests above put every bit back, and a copy of the store is as sound as the store."""
    shutil.copytree(store.root, tmp_path / "copy")
    assert fsck(store, Level.FULL).findings == ()
    assert fsck(Store(tmp_path / "copy"), Level.FULL).findings == ()
