"""Frames move between a store and a remote: checked at both ends, and always such that they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modelstore.blobs.frame import FrameHeader, check_frame, pack_header, parse_header
from modelstore.blobs.source import BytesSource
from modelstore.errors import IntegrityError, RemoteError, StoreError
from modelstore.hashing import Digest, digest_of
from modelstore.numeric import dtype_named
from modelstore.ops.transfer import Expected, bring, check_there, key_of, send, there
from modelstore.remotes.base import Remote
from modelstore.remotes.directory import DirectoryRemote
from modelstore.store import Store, create
from tests.models import weights
from tests.ops.remotes import Broken, Watched

F32 = dtype_named("F32")


def values(step: float) -> bytes:
    """Return the bytes of a tensor that training moved by ``step``."""
    return weights(1, step=step)["model.embed_tokens.weight"].data


def add(store: Store, data: bytes, *bases: Digest) -> Digest:
    """Add a blob that may be built on ``bases``; return its name."""
    digest = digest_of(data)
    with store.blobs.transaction() as transaction:
        transaction.add(digest, BytesSource(data), dtype=F32, bases=bases)
        transaction.publish()
    return digest


def chain(store: Store, *steps: float) -> list[Digest]:
    """Add blobs each of which is built on the one before it; return their names."""
    found: list[Digest] = []
    for step in steps:
        found.append(add(store, values(step), *found[-1:]))
    return found


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[DirectoryRemote]:
    """An empty directory as a remote."""
    (tmp_path / "remote").mkdir()
    directory = DirectoryRemote(tmp_path / "remote")
    yield directory
    directory.close()


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A second store."""
    return create(tmp_path / "other" / "tuned_models")


def depth_there(remote: Remote, digest: Digest) -> int:
    """Return the depth of a frame at a remote, every byte of which is right."""
    return check_there(remote, digest).depth


def assert_fits(remote: Remote) -> None:
    """Every frame at the remote is less deep than all that are built on it, which are there."""
    for digest in there(remote):
        header = check_there(remote, digest)
        assert all(depth_there(remote, base) < header.depth for base in header.built_on)


def test_a_frame_comes_with_what_it_is_built_on(
    store: Store, other: Store, remote: DirectoryRemote
) -> None:
    """Asked for one blob, both ways move its bases too, and the frames are the same bytes."""
    blobs = chain(store, 0.0, 1e-4, 2e-4)
    assert store.blobs.header(blobs[-1]).depth == 2
    sent = send(store, remote, blobs[-1:], {})
    assert (sent.frames, sent.damaged) == (3, {})
    brought = bring(other, remote, blobs[-1:])
    assert brought.frames == 3
    for digest in blobs:
        frame = store.blobs.path(digest).read_bytes()
        assert remote.get(key_of(digest)) == frame
        assert other.blobs.path(digest).read_bytes() == frame


def test_what_is_there_is_not_sent_again(store: Store, remote: DirectoryRemote) -> None:
    """Only frames that are not in the listing are sent."""
    first = chain(store, 0.0)
    send(store, remote, first, there(remote))
    both = [*first, add(store, values(1e-4), *first)]
    watched = Watched(remote)
    sent = send(store, watched, both, there(remote))
    assert sent.frames == 1
    assert list(watched.written) == [key_of(both[1])]
    assert sent.bytes == store.blobs.path(both[1]).stat().st_size


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_base_that_is_deeper_there_is_built_on_all_the_same(
    store: Store, other: Store, remote: DirectoryRemote, depth: int
) -> None:
    """A frame is sent under a greater depth, or alone where that were too deep; so with bringing."""
    deep = chain(store, *(step * 1e-5 for step in range(depth + 1)))
    shared = deep[-1]
    send(store, remote, deep, {})
    assert depth_there(remote, shared) == depth

    add(other, store.blobs.read(shared))
    top = add(other, values(9e-4), shared)
    assert (other.blobs.header(shared).depth, other.blobs.header(top).depth) == (0, 1)
    sent = send(other, remote, [top], there(remote))

    assert sent.frames == 1
    assert depth_there(remote, top) == (depth + 1 if depth < 4 else 0)
    assert_fits(remote)

    bring(store, remote, [top])
    assert store.blobs.read(top) == values(9e-4)
    assert store.blobs.is_sound(top)
    here = add(other, values(5e-4), top)
    assert other.blobs.header(here).depth == 2


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_a_base_that_is_deeper_here_is_built_on_all_the_same(
    store: Store, other: Store, remote: DirectoryRemote, depth: int
) -> None:
    """A frame that comes is given a greater depth, or is encoded alone where that were too deep."""
    add(other, values(0.0))
    base = add(other, values(8e-5))
    top = add(other, values(9e-5), base)
    send(other, remote, [top], {})
    deep = chain(store, *(step * 1e-5 for step in range(depth)))
    add(store, values(8e-5), *deep[-1:])
    assert store.blobs.header(base).depth == depth

    bring(store, remote, [top])

    assert store.blobs.header(top).depth == (depth + 1 if depth < 4 else 0)
    assert store.blobs.header(base).depth == depth
    assert store.blobs.read(top) == values(9e-5)


def test_two_blobs_that_are_built_on_each_other_on_either_side_make_no_cycle(
    store: Store, other: Store, remote: DirectoryRemote
) -> None:
    """What is here stays as it is, and what comes is built on it or on nothing."""
    one = add(store, values(0.0))
    two = add(store, values(1e-4), one)
    add(other, values(1e-4))
    assert add(other, values(0.0), two) == one
    assert other.blobs.header(one).base == two
    send(other, remote, [one, two], {})
    assert bring(store, remote, [one, two]).frames == 0
    assert send(store, remote, [one, two], there(remote)).frames == 0
    store.blobs.path(one).unlink()  # now ours is built on what only they have, on ours
    assert bring(store, remote, [one]).frames == 2
    assert store.blobs.read(one) == values(0.0)
    assert store.blobs.read(two) == values(1e-4)


def test_damaged_and_missing_frames_are_told_and_never_sent(
    store: Store, remote: DirectoryRemote
) -> None:
    """They are named with the reason, and so is what is built on them; the rest is sent."""
    blobs = chain(store, 0.0, 1e-4, 2e-4)
    whole = add(store, b"whole")
    path = store.blobs.path(blobs[1])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    missing = digest_of(b"missing")
    sent = send(store, remote, [*blobs, whole, missing], {})
    assert sent.damaged.keys() == {blobs[1], blobs[2], missing}
    assert there(remote).keys() == {blobs[0], whole}


@pytest.mark.parametrize("way", ["send", "bring"])
def test_a_transfer_that_breaks_off_anywhere_goes_on(
    tmp_path: Path, remote: DirectoryRemote, way: str
) -> None:
    """Whatever call fails, what was published is sound, and the next attempt needs only the rest."""
    store = create(tmp_path / "store")
    blobs = chain(store, 0.0, 1e-4, 2e-4)
    if way == "bring":
        send(store, remote, blobs, {})
    for step in range(100):
        target = create(tmp_path / f"target{step}")
        if way == "send":
            remote.delete([key_of(digest) for digest in blobs])

        def move(at: Remote, target: Store = target) -> None:
            if way == "send":
                send(store, at, blobs, there(remote))
            else:
                bring(target, at, blobs)

        try:
            move(Watched(remote, Broken(step)))
        except RemoteError:
            assert_fits(remote)
            move(remote)
            assert_fits(remote)
            assert there(remote).keys() == set(blobs)
            assert way == "send" or all(map(target.blobs.is_sound, blobs))
        else:
            break
    assert step > 2


Lie = Callable[[bytes, FrameHeader], bytes]

LIES: dict[str, Lie] = {
    "truncated": lambda frame, _: frame[:-1],
    "longer": lambda frame, _: frame + b"\0",
    "a bit flipped": lambda frame, _: frame[:-1] + bytes([frame[-1] ^ 1]),
    "nothing": lambda frame, _: b"",
    "no frame": lambda frame, _: b"x" * 1000,
    "of another size": lambda frame, header: (
        pack_header(replace(header, raw_size=1 << 40)) + frame[header.offsets[0] :]
    ),
    "built on itself": lambda frame, header: (
        pack_header(replace(header, base=header.digest)) + frame[header.offsets[0] :]
    ),
    "built on nothing known": lambda frame, header: (
        pack_header(replace(header, base=digest_of(b"nobody's"))) + frame[header.offsets[0] :]
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_remote_that_lies_is_found_out(
    store: Store, other: Store, remote: DirectoryRemote, lie: str
) -> None:
    """Nothing of what it gives is published, and the error is a clean one."""
    blobs = chain(store, 0.0, 1e-4)
    send(store, remote, blobs, {})
    frame = remote.get(key_of(blobs[1]))
    remote.put(key_of(blobs[1]), LIES[lie](frame, parse_header(BytesSource(frame), blobs[1])))
    with pytest.raises(StoreError) as found:
        bring(other, remote, [blobs[1]])
    assert found.value.exit_code in {6, 13}
    assert list(other.blobs.iter_digests()) == []


def test_a_frame_of_another_blob_is_found_out(
    store: Store, other: Store, remote: DirectoryRemote
) -> None:
    """A frame under another name is refused, even if its header says that name."""
    one, two = add(store, values(0.0)), add(store, values(1e-4))
    frame = store.blobs.path(two).read_bytes()
    remote.put(key_of(one), frame)
    with pytest.raises(IntegrityError, match="gives as blob"):
        bring(other, remote, [one])
    header = replace(parse_header(BytesSource(frame), two), digest=one)
    remote.put(key_of(one), pack_header(header) + frame[header.offsets[0] :])
    check_frame(BytesSource(remote.get(key_of(one))), one)
    with pytest.raises(IntegrityError, match="not those of its name"):
        bring(other, remote, [one])
    assert list(other.blobs.iter_digests()) == []


def test_a_frame_that_claims_other_bytes_than_its_manifest_says_is_refused(
    store: Store, other: Store, remote: DirectoryRemote
) -> None:
    """Before anything is decoded: a small frame may give terabytes."""
    one = add(store, values(0.0))
    send(store, remote, [one], {})
    with pytest.raises(IntegrityError, match="claims"):
        bring(other, remote, [one], expected=Expected({one: 1}))
    with pytest.raises(IntegrityError, match="claims"):
        bring(other, remote, [one], expected=Expected(most=1))
    assert bring(other, remote, [one], expected=Expected({one: len(values(0.0))})).frames == 1


def test_a_blob_that_nobody_has_is_named(store: Store, remote: DirectoryRemote) -> None:
    """Bringing what the remote lacks is an error that names it."""
    lost = digest_of(b"lost")
    with pytest.raises(IntegrityError, match=str(lost)):
        bring(store, remote, [lost])
