"""Frames that were written once must be readable for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.blobs import BlobStore
from modelstore.codecs.ids import CODEC_INFOS
from modelstore.hashing import Digest, digest_of
from tests.blobs.golden import FRAMES, cases

GOLDEN = sorted(FRAMES.glob("*.frame"))


@pytest.fixture
def golden(store: BlobStore) -> BlobStore:
    """A store of all golden frames, each under the name in its header."""
    for path in GOLDEN:
        store.path(name_in(path)).write_bytes(path.read_bytes())
    return store


def name_in(path: Path) -> Digest:
    """Return the raw digest where `docs/format.md` says that it lies."""
    return Digest(path.read_bytes()[64:96].hex())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_frames_decode(golden: BlobStore, path: Path):
    """Every golden frame gives the bytes that it was made of, whole and in part."""
    raw = cases()[path.stem].raw
    golden.check(digest_of(raw))
    assert golden.read(digest_of(raw)) == raw
    assert golden.read_range(digest_of(raw), len(raw) // 3, len(raw)) == raw[len(raw) // 3 :]


def test_every_codec_has_golden_frames(golden: BlobStore):
    """No codec and no case is without one."""
    assert {path.stem for path in GOLDEN} == set(cases())
    used = {golden.header(name_in(path)).codec for path in GOLDEN}
    assert used == {info.name for info in CODEC_INFOS}
