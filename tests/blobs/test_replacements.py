"""Replacing frames: every blob can be read at any moment, and no chain is ever broken."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.blobs import BlobStore, BytesSource
from modelstore.blobs.choice import DEEPEST, Choice
from modelstore.blobs.drafts import NewFrame
from modelstore.blobs.lineage import Lineage
from modelstore.blobs.reader import BlobReader, open_reader, opened
from modelstore.blobs.replacements import Replacements
from modelstore.codecs import ids
from modelstore.codecs.ids import CodecInfo
from modelstore.errors import ConflictError
from modelstore.hashing import Digest, digest_of
from tests.blobs.conftest import BF16, add, damage, fine_tuned, resealed, store_at
from tests.frames import put_frame


def replacements(store: BlobStore) -> Replacements:
    """Return a context for replacing frames of ``store``."""
    return Replacements(store, Lineage(store))


def write(
    store: BlobStore,
    to: Replacements,
    data: bytes,
    base: Digest | None = None,
    codec: CodecInfo | None = None,
) -> NewFrame:
    """Stage a frame of ``data``, with a base or without."""
    source = BytesSource(data)
    if base is None:
        return to.write(digest_of(data), source, BF16, Choice(codec or ids.PLANES), 0)
    with opened(store.path, base) as reader:
        return to.write(digest_of(data), source, BF16, Choice(ids.DELTA, reader), 0)


def replace(
    store: BlobStore, data: bytes, base: Digest | None = None, codec: CodecInfo | None = None
) -> bool:
    """Try to replace the frame of ``data``; tell whether that was done."""
    with replacements(store) as to:
        to.keep(write(store, to, data, base, codec))
        return bool(to.publish())


def depth(store: BlobStore, data: bytes) -> int:
    """Return the depth of the frame of ``data``."""
    return store.header(digest_of(data)).depth


def test_a_smaller_frame_takes_the_place_of_a_larger_one(store: BlobStore):
    """The blob keeps its name and bytes, its frame is smaller, and nothing is left staged."""
    old, new = fine_tuned(2)
    base, _ = add(store, old)
    digest, before = add(store, new)
    with replacements(store) as to:
        frame = write(store, to, new, base)
        to.keep(frame)
        assert store.header(digest).base is None
        assert to.publish() == [frame]
    assert store.header(digest).base == base
    assert store.path(digest).stat().st_size < before.stored_size
    assert store.read(digest) == new
    assert list((store.root / "tmp").iterdir()) == []


def test_who_has_the_old_frame_open_reads_on(store: BlobStore):
    """A reader does not notice that the frame it reads was replaced."""
    old, new = fine_tuned(2)
    base, _ = add(store, old)
    digest, _ = add(store, new)
    reader = open_reader(store.path, digest)
    assert replace(store, new, base)
    assert b"".join(reader.block(index) for index in range(reader.header.block_count)) == new
    reader.close()


def test_what_is_no_better_is_dropped(store: BlobStore):
    """A larger frame, or an equal one, replaces nothing."""
    data = fine_tuned(1)[0]
    digest, _ = add(store, data)
    before = store.path(digest).read_bytes()
    assert not replace(store, data, codec=ids.RAW)
    assert not replace(store, data)
    assert store.path(digest).read_bytes() == before


def test_at_the_same_size_less_depth_wins(store: BlobStore):
    """A frame that is as large and stands alone takes the place of one that has a base."""
    random = np.random.default_rng(5)
    base, noise = random.bytes(4000), random.bytes(4000)
    add(store, base)
    before = put_frame(store, noise, ids.DELTA, digest_of(base))
    assert replace(store, noise, codec=ids.RAW)
    after = store.header(digest_of(noise))
    assert (after.stored_size, after.depth) == (before.stored_size, 0)


def test_what_others_are_built_on_never_becomes_deeper(store: BlobStore):
    """A frame that is a base is replaced only by one that is not deeper."""
    root, middle, top = fine_tuned(3)
    add(store, root)
    put_frame(store, middle, ids.RAW)
    put_frame(store, top, ids.DELTA, digest_of(middle))
    assert not replace(store, middle, digest_of(root))
    assert replace(store, middle)
    assert (depth(store, middle), depth(store, top)) == (0, 1)
    assert store.read(digest_of(top)) == top


def test_what_becomes_a_base_meanwhile_does_not_become_deeper(store: BlobStore):
    """A version that is committed between staging and publishing is not left on a broken chain."""
    root, middle, top = fine_tuned(3)
    add(store, root)
    add(store, middle)
    with replacements(store) as to:
        to.keep(write(store, to, middle, digest_of(root)))
        add(store, top, middle)
        assert to.publish() == []
        assert to.waiting == 0
    assert store.read(digest_of(top)) == top


def test_nothing_becomes_deeper_while_others_stage(store: BlobStore):
    """Who is committing may have chosen the frame as a base, so it is replaced when they are done."""
    root, middle, top = fine_tuned(3)
    add(store, root)
    add(store, middle)
    with replacements(store) as to:
        with store.transaction() as transaction:
            transaction.add(digest_of(top), BytesSource(top), dtype=BF16, bases=[digest_of(middle)])
            to.keep(write(store, to, middle, digest_of(root)))
            assert to.publish() == []
            assert to.waiting == 1
        assert len(to.publish()) == 1
        assert to.waiting == 0
    assert depth(store, middle) == 1


def test_what_is_not_deeper_need_not_wait(store: BlobStore):
    """A better codec at the same depth is put in place whoever is at work."""
    data, other = fine_tuned(2)
    put_frame(store, data, ids.RAW)
    with store.transaction() as transaction:
        transaction.add(digest_of(other), BytesSource(other), dtype=BF16, bases=[digest_of(data)])
        assert replace(store, data)
        transaction.publish()
    assert store.read(digest_of(other)) == other
    assert depth(store, other) == 1


def test_giving_up_leaves_nothing(store: BlobStore):
    """Frames that waited in vain are removed, and the old ones stay."""
    root, middle = fine_tuned(2)
    add(store, root)
    digest, _ = add(store, middle)
    with replacements(store) as to, store.transaction():
        to.keep(write(store, to, middle, digest_of(root)))
        to.publish()
        assert to.give_up() == 1
        assert to.waiting == 0
        assert len(list((store.root / "tmp").rglob(f"{digest}*"))) == 0
    assert depth(store, middle) == 0


def test_a_frame_whose_base_became_deeper_is_dropped(store: BlobStore):
    """A frame is put in place only on a base that is still less deep than it is."""
    root, middle, top = fine_tuned(3)
    add(store, root)
    add(store, middle)
    add(store, top)
    with replacements(store) as to:
        to.keep(write(store, to, top, digest_of(middle)))
        put_frame(store, middle, ids.DELTA, digest_of(root))
        assert to.publish() == []
    assert (depth(store, middle), depth(store, top)) == (1, 0)
    assert store.read(digest_of(top)) == top


def test_frames_of_one_publish_do_not_break_each_other(store: BlobStore):
    """Of a base and what is built on it anew, each staged before the other was, one gives way."""
    root, middle, top = fine_tuned(3)
    for data in (root, middle, top):
        add(store, data)
    with replacements(store) as to:
        to.keep(write(store, to, top, digest_of(middle)))
        to.keep(write(store, to, middle, digest_of(root)))
        assert len(to.publish()) == 1
    for data in (root, middle, top):
        assert store.read(digest_of(data)) == data


def test_a_damaged_frame_is_not_replaced(store: BlobStore):
    """What depth a damaged frame had is not known, so repairing is left to those who can tell."""
    old, new = fine_tuned(2)
    add(store, old)
    digest, _ = add(store, new)
    with replacements(store) as to:
        to.keep(write(store, to, new, digest_of(old)))
        damage(store.path(digest), b"junk")
        assert to.publish() == []
    assert store.path(digest).read_bytes() == b"junk"


def test_other_bytes_are_refused(store: BlobStore):
    """A source that is not what the digest names never becomes a frame."""
    old, new = fine_tuned(2)
    with replacements(store) as to, pytest.raises(ConflictError):
        to.write(digest_of(old), BytesSource(new), BF16, Choice(ids.PLANES), 0)


# --- lineage


def test_frames_that_come_later_are_seen(store: BlobStore):
    """A base is known as one as soon as the lineage is read again, however its child came to be."""
    root, middle, top = fine_tuned(3)
    for data in (root, middle, top):
        add(store, data)
    lineage = Lineage(store)
    assert lineage.may_become_deeper(digest_of(root))
    put_frame(store, middle, ids.DELTA, digest_of(root))
    put_frame(store, top, ids.DELTA, digest_of(middle))
    lineage.refresh()
    assert not lineage.may_become_deeper(digest_of(root))
    assert not lineage.may_become_deeper(digest_of(middle))
    assert lineage.may_become_deeper(digest_of(top))


def test_once_a_base_always_a_base(store: BlobStore):
    """A reader may hold the child that a base had a moment ago."""
    root, top = fine_tuned(2)
    add(store, root)
    put_frame(store, top, ids.DELTA, digest_of(root))
    lineage = Lineage(store)
    put_frame(store, top, ids.PLANES)
    lineage.refresh()
    assert not lineage.may_become_deeper(digest_of(root))


def test_frames_of_a_newer_mstore_forbid_more_depth(store: BlobStore):
    """What they are built on is not known here; a damaged one is built on nothing any more."""
    one, two, three = fine_tuned(3)
    for data in (one, two, three):
        add(store, data)
    path = store.path(digest_of(two))
    intact = path.read_bytes()
    damage(path, b"junk")
    assert Lineage(store).may_become_deeper(digest_of(one))
    damage(path, resealed(intact, 8, b"\xfe"))
    lineage = Lineage(store)
    assert not lineage.may_become_deeper(digest_of(one))
    assert list(lineage.unreadable) == [digest_of(two)]


# --- whatever is tried

VERSIONS = fine_tuned(6, 400)
STEP = st.tuples(st.integers(0, 5), st.none() | st.integers(0, 5), st.booleans())


@settings(max_examples=15)
@given(steps=st.lists(STEP, max_size=12), start=st.lists(st.none() | st.integers(0, 4), min_size=6))
def test_any_order_of_replacements_keeps_every_chain(steps: list, start: list):
    """After every publish all blobs can be read, depths grow along chains, and stay below five."""
    with tempfile.TemporaryDirectory() as place:
        store = store_at(Path(place) / ".mstore", threads=1)
        names = [digest_of(data) for data in VERSIONS]
        for index, (data, base) in enumerate(zip(VERSIONS, start, strict=False)):
            base = None if base is None or base >= index else names[base]
            if base is not None and store.header(base).depth == DEEPEST:
                base = None
            put_frame(store, data, ids.RAW if base is None else ids.DELTA, base)
        with replacements(store) as to:
            for which, base, now in steps:
                if base is not None and not may_be_base(store, names[base], names[which]):
                    continue
                to.keep(write(store, to, VERSIONS[which], None if base is None else names[base]))
                if now:
                    to.publish()
                    assert_sound(store)
            to.publish()
        assert_sound(store)


def may_be_base(store: BlobStore, base: Digest, digest: Digest) -> bool:
    """Tell whether a frame of ``digest`` may be staged on ``base``, as `Replacements` asks."""
    with opened(store.path, base) as reader:
        ancestor: BlobReader | None = reader
        while ancestor is not None and ancestor.header.digest != digest:
            ancestor = ancestor.base
        return ancestor is None and reader.header.depth < DEEPEST


def assert_sound(store: BlobStore) -> None:
    """Check every chain, and every byte."""
    for data in VERSIONS:
        header = store.header(digest_of(data))
        assert header.depth <= DEEPEST
        assert header.base is None or store.header(header.base).depth < header.depth
        assert store.read(digest_of(data)) == data
