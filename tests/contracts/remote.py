"""What every remote promises; each is tested by subclasses of `ReadContract` and `WriteContract`.

A server of mstore takes what belongs to a store only, so for it, and for others beside it, there is
`StoreContract`: the same promises, of real frames, records and registries.
"""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from modelstore.errors import (
    BadNameError,
    ConflictError,
    NotFoundError,
    RemoteError,
    StoreError,
    UsageError,
)
from modelstore.hashing import Digest, digest_of
from modelstore.ops.elsewhere import key_of, there
from modelstore.remotes.base import EXCLUSIVE_LIMIT, SWAP_LIMIT, Found, Remote
from modelstore.remotes.content import MadeContent
from modelstore.remotes.probe import PREFIX, probe
from modelstore.store import Store, create
from modelstore.view import render
from tests.ops.remotes import LINE, commit_model

Fill = Callable[[str, bytes], None]

LARGE = EXCLUSIVE_LIMIT + (3 << 20) + 17
BAD_KEYS = ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "a b", "ä", "a\\b", "con", "a."]


def noise(size: int, seed: int = 0) -> bytes:
    """Return ``size`` bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def at_once(number: int, call: Callable[[int], None]) -> None:
    """Call ``call`` with 0 … ``number`` - 1 in as many threads, all beginning in one moment."""
    start = threading.Barrier(number)
    failures: list[BaseException] = []

    def run(index: int) -> None:
        start.wait()
        try:
            call(index)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class ReadContract:
    """Tests that every remote passes; ``fill`` puts a value where ``remote`` will find it."""

    @pytest.mark.parametrize("size", [0, 1, 100_003, LARGE])
    def test_gives_back_what_was_put(self, remote: Remote, fill: Fill, size: int) -> None:
        """A value comes back whole, at once and in pieces, and its size is known."""
        fill("a/value.bin", noise(size))
        assert remote.get("a/value.bin") == noise(size)
        assert b"".join(remote.stream("a/value.bin")) == noise(size)
        found = remote.head("a/value.bin")
        assert found is not None
        assert (found.key, found.size) == ("a/value.bin", size)

    def test_gives_parts(self, remote: Remote, fill: Fill) -> None:
        """A range gives exactly its bytes, wherever it begins and ends."""
        data = noise(300_000)
        fill("v", data)
        for start, stop in [
            (0, 1),
            (0, 300_000),
            (65_535, 65_537),
            (131_072, 196_608),
            (299_999, 300_000),
        ]:
            assert remote.get_range("v", start, stop) == data[start:stop]

    def test_refuses_parts_that_are_not_there(self, remote: Remote, fill: Fill) -> None:
        """A range that goes on after the value is an error, not a shorter answer."""
        fill("v", b"0123456789")
        for start, stop in [(5, 11), (10, 11), (100, 200)]:
            with pytest.raises(RemoteError):
                remote.get_range("v", start, stop)
        for start, stop in [(3, 3), (5, 2), (-1, 2)]:
            with pytest.raises(UsageError):
                remote.get_range("v", start, stop)

    def test_tells_what_is_not_there(self, remote: Remote, fill: Fill) -> None:
        """Reading what does not exist says so, and head gives None; a directory is no value."""
        fill("a/b", b"x")
        for key in ["a/c", "z", "z/z"]:
            assert remote.head(key) is None
            for call in (remote.get, remote.get_tagged, lambda k: remote.get_range(k, 0, 1)):
                with pytest.raises(NotFoundError):
                    call(key)
            with pytest.raises(NotFoundError):
                next(remote.stream(key))

    def test_holds_no_more_than_asked(self, remote: Remote, fill: Fill) -> None:
        """A value that is larger than the limit is not taken into memory."""
        fill("v", noise(1001))
        assert len(remote.get("v", limit=1001)) == 1001
        with pytest.raises(RemoteError):
            remote.get("v", limit=1000)

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_refuses_bad_keys(self, remote: Remote, key: str) -> None:
        """A key that could leave the remote, or that no file can have, is refused everywhere."""
        calls: list[Callable[[], object]] = [
            lambda: remote.get(key),
            lambda: remote.get_range(key, 0, 1),
            lambda: next(remote.stream(key)),
            lambda: remote.head(key),
        ]
        if remote.writable:
            calls += [
                lambda: remote.put(key, b""),
                lambda: remote.put_if_absent(key, b""),
                lambda: remote.swap(key, b"", None),
                lambda: remote.delete([key]),
            ]
        for call in calls:
            with pytest.raises(BadNameError):
                call()

    def test_names_itself(self, remote: Remote) -> None:
        """An error names the remote and the key as the caller knows them."""
        with pytest.raises(NotFoundError, match="no/such/key") as caught:
            remote.get("no/such/key")
        assert remote.shown in caught.value.message


class WriteContract(ReadContract):
    """Tests that a remote passes to which values can be put."""

    MANY = 1100
    """How many values a listing of several pages has."""

    @pytest.fixture
    def fill(self, remote: Remote) -> Fill:
        """Return what puts a value."""
        return remote.put

    # --- put

    def test_replaces(self, remote: Remote) -> None:
        """Put goes over what is there, and the new value is whole even if it is shorter."""
        remote.put("a/b", noise(1000))
        remote.put("a/b", b"short")
        assert remote.get("a/b") == b"short"

    @pytest.mark.parametrize("size", [10, LARGE])
    def test_takes_files_and_what_is_made(self, remote: Remote, tmp_path: Path, size: int) -> None:
        """A value can come from a file or be made while it is sent."""
        data = noise(size)
        path = tmp_path / "value"
        path.write_bytes(data)
        remote.put("file", path)
        assert remote.put_if_absent("made", MadeContent(size, lambda: iter([data[:7], data[7:]])))
        assert remote.get("file") == remote.get("made") == data

    @pytest.mark.parametrize("size", [100, LARGE])
    def test_takes_nothing_that_fails_on_the_way(self, remote: Remote, size: int) -> None:
        """What ends early, goes on too long or raises leaves no value, and the old one stays."""

        def raising() -> Iterator[bytes]:
            yield noise(size // 2)
            raise NotFoundError("it went away")

        remote.put("old", b"old")
        for made in (raising, lambda: iter([noise(size - 1)]), lambda: iter([noise(size + 1)])):
            for key in ("new", "old"):
                with pytest.raises((NotFoundError, ConflictError)):
                    remote.put(key, MadeContent(size, made))
        assert remote.head("new") is None
        assert remote.get("old") == b"old"
        assert [found.key for found in remote.list()] == ["old"]

    # --- put_if_absent

    @pytest.mark.parametrize("size", [10, LARGE])
    def test_puts_only_if_absent(self, remote: Remote, size: int) -> None:
        """The first value stays, and the second caller is told."""
        assert remote.put_if_absent("a/b", noise(size, 1)) is True
        assert remote.put_if_absent("a/b", noise(size, 2)) is False
        assert remote.get("a/b") == noise(size, 1)

    def test_has_one_winner_of_put_if_absent(self, remote: Remote) -> None:
        """Of eight threads that put the same key, one does, and its value is there."""
        for turn in range(5):
            won: list[int] = []

            def run(index: int, key: str = f"race/{turn}", won: list[int] = won) -> None:
                if remote.put_if_absent(key, b"%d" % index):
                    won.append(index)

            at_once(8, run)
            assert len(won) == 1
            assert remote.get(f"race/{turn}") == b"%d" % won[0]

    # --- swap

    def test_swaps_what_is_expected(self, remote: Remote) -> None:
        """A swap takes the tag of the value that is there, and gives the tag of its own."""
        first = remote.swap("r/x", b"1", None)
        assert remote.get_tagged("r/x") == (b"1", first)
        second = remote.swap("r/x", b"2", first)
        assert remote.get_tagged("r/x") == (b"2", second)
        remote.put("r/x", b"3")
        third = remote.get_tagged("r/x")[1]
        assert len({first, second, third}) == 3
        remote.swap("r/x", b"4", third)
        assert remote.get("r/x") == b"4"

    def test_refuses_to_swap_anything_else(self, remote: Remote) -> None:
        """A stale tag, a value where none may be, and none where one must be are conflicts."""
        first = remote.swap("r/x", b"1", None)
        second = remote.swap("r/x", b"2", first)
        for key, expected in [("r/x", first), ("r/x", None), ("r/y", second)]:
            with pytest.raises(ConflictError, match=key):
                remote.swap(key, b"3", expected)
        assert remote.get("r/x") == b"2"
        assert remote.head("r/y") is None

    def test_loses_no_swap(self, remote: Remote) -> None:
        """Eight threads that count in one value lose nothing: it ends at the sum of their steps."""
        steps = 6
        remote.swap("counter", b"0", None)

        def count(index: int) -> None:
            done = 0
            while done < steps:
                data, tag = remote.get_tagged("counter")
                number = int(data.split()[0]) + 1
                with suppress(ConflictError):
                    remote.swap("counter", b"%d by %d" % (number, index), tag)
                    done += 1

        at_once(8, count)
        assert int(remote.get("counter").split()[0]) == 8 * steps

    def test_has_one_winner_of_creation(self, remote: Remote) -> None:
        """Of eight threads that create a value by swap, one does; the others are told."""
        for turn in range(5):
            won: list[int] = []

            def run(index: int, key: str = f"r/{turn}", won: list[int] = won) -> None:
                with suppress(ConflictError):
                    remote.swap(key, b"%d" % index, None)
                    won.append(index)

            at_once(8, run)
            assert len(won) == 1
            assert remote.get(f"r/{turn}") == b"%d" % won[0]

    def test_swaps_values_up_to_the_limit(self, remote: Remote) -> None:
        """A value of the largest size that is promised can be swapped; a far larger one cannot."""
        tag = remote.swap("large", noise(SWAP_LIMIT), None)
        remote.swap("large", b"small", tag)
        with pytest.raises(UsageError):
            remote.swap("larger", bytes(SWAP_LIMIT + (1 << 20)), None)

    # --- list and delete

    def test_lists_what_is_below_a_prefix(self, remote: Remote) -> None:
        """A listing has every value below the prefix at any depth, and no other."""
        keys = ["a/b", "a/c/d", "a/c/e/f", "ab/c", "b"]
        for key in keys:
            remote.put(key, key.encode())
        assert sorted(found.key for found in remote.list()) == keys
        assert sorted(found.key for found in remote.list("a")) == keys[:3]
        assert sorted(found.key for found in remote.list("a/c")) == keys[1:3]
        assert list(remote.list("a/b")) == []
        assert list(remote.list("nothing/here")) == []
        self.check_listed(remote, list(remote.list()))

    def check_listed(self, remote: Remote, listed: list[Found]) -> None:
        """Assert that a listing tells sizes, and tags where it tells them at all."""
        for found in listed:
            assert found.size == len(remote.get(found.key))
            assert found.tag in {None, remote.get_tagged(found.key)[1]}

    def test_lists_many(self, remote: Remote) -> None:
        """A listing of several pages is whole and tells nothing twice; so is its removal."""
        keys = [f"many/{number % 7}/{number:05}" for number in range(self.MANY)]
        share = -(-len(keys) // 8)

        def put(index: int) -> None:
            for key in keys[index * share : (index + 1) * share]:
                remote.put(key, b"x")

        at_once(8, put)
        assert sorted(found.key for found in remote.list("many")) == sorted(keys)
        remote.delete(keys)
        assert list(remote.list()) == []

    @pytest.mark.parametrize("prefix", ["/", "a/", "..", "a//b"])
    def test_refuses_bad_prefixes(self, remote: Remote, prefix: str) -> None:
        """A prefix is nothing or a key."""
        with pytest.raises(BadNameError):
            list(remote.list(prefix))

    def test_deletes(self, remote: Remote) -> None:
        """What is deleted is gone, what is not stays, and what was not there does not matter."""
        for key in ["a/b", "a/c", "d"]:
            remote.put(key, b"x")
        remote.delete(["a/b", "nothing", "d", "a/nothing"])
        assert [found.key for found in remote.list()] == ["a/c"]
        remote.delete([])
        remote.delete(["a/b"])
        assert remote.put_if_absent("a/b", b"again")

    # --- together

    def test_keeps_registries(self, remote: Remote) -> None:
        """The probe finds that registries are safe, and leaves nothing behind."""
        found = probe(remote)
        assert found.keeps_registries
        assert found.ranges
        assert found.reason == ""
        assert list(remote.list(PREFIX)) == []

    def test_is_used_by_many_threads(self, remote: Remote) -> None:
        """Threads that put, read and list at once see whole values only."""

        def work(index: int) -> None:
            for turn in range(4):
                key = f"w/{index}/{turn}"
                data = noise(50_000, index * 10 + turn)
                remote.put(key, data)
                assert remote.get(key) == data
                assert key in {found.key for found in remote.list(f"w/{index}")}
                remote.put("w/shared", noise(60_000, index))
                assert remote.get("w/shared") in [noise(60_000, other) for other in range(8)]

        at_once(8, work)

    def test_errors_are_the_stores_own(self, remote: Remote) -> None:
        """Whatever fails, fails as a `StoreError`, and says it in one line."""
        for call in (lambda: remote.get("x"), lambda: remote.swap("x", b"", "no such tag")):
            with pytest.raises(StoreError) as caught:
                call()
            assert "\n" not in caught.value.message


REGISTRY = f"models/{LINE}/registry.json"


class StoreContract:
    """Tests that every remote passes that is pushed to, with what a push puts there.

    ``remote`` may be pushed to, and has nothing, except that a place may say of itself what it is.
    """

    @pytest.fixture
    def line(self, tmp_path: Path) -> Store:
        """A store with two versions, of which one is built on the other."""
        store = create(tmp_path / "line")
        for step in (0.0, 1e-4):
            commit_model(store, tmp_path / "run", step=step)
        return store

    def send_all(self, store: Store, remote: Remote) -> None:
        """Put the frames of a store that are not there, what they are built on first, and records."""
        known = there(remote)
        headers = [store.blobs.header(digest) for digest in store.blobs.iter_digests()]
        for header in sorted(headers, key=lambda header: header.depth):
            if header.digest not in known:
                assert remote.put_if_absent(key_of(header.digest), frame_of(store, header.digest))
        for key, payload in records_of(store).items():
            remote.put_if_absent(key, payload)

    def test_gives_back_frames(self, line: Store, remote: Remote) -> None:
        """A frame comes back as it was put, whole and in parts; it is put once."""
        self.send_all(line, remote)
        for digest in line.blobs.iter_digests():
            key, data = key_of(digest), frame_of(line, digest)
            assert remote.put_if_absent(key, data) is False
            assert remote.get(key) == data
            assert b"".join(remote.stream(key)) == data
            assert remote.get_range(key, 5, len(data) - 1) == data[5:-1]
            found = remote.head(key)
            assert found is not None
            assert (found.key, found.size) == (key, len(data))
            with pytest.raises(RemoteError):
                remote.get(key, limit=len(data) - 1)
            with pytest.raises(RemoteError):
                remote.get_range(key, 5, len(data) + 1)

    def test_gives_back_records(self, line: Store, remote: Remote) -> None:
        """So does a record, before and after the registry that it leads to is there."""
        self.send_all(line, remote)
        for turn in range(2):
            for key, payload in records_of(line).items():
                assert remote.get(key) == payload
                assert remote.put_if_absent(key, payload) is False
            if not turn:
                remote.swap(REGISTRY, render(line.state(LINE).document), None)

    def test_tells_what_is_not_there(self, remote: Remote) -> None:
        """Reading what does not exist says so, and head gives None."""
        digest = digest_of(b"nothing")
        keys = [key_of(digest), REGISTRY, f"models/{LINE}/records/0000000001-{digest}.json", "x/y"]
        for key in keys:
            assert remote.head(key) is None
            for call in (remote.get, remote.get_tagged, lambda k: remote.get_range(k, 0, 1)):
                with pytest.raises(NotFoundError, match=key):
                    call(key)
            with pytest.raises(NotFoundError):
                next(remote.stream(key))
        for key in BAD_KEYS:
            for refused in (remote.get, remote.head, lambda k: remote.put_if_absent(k, b"")):
                with pytest.raises(BadNameError):
                    refused(key)

    def test_takes_no_frame_that_fails_on_the_way(self, line: Store, remote: Remote) -> None:
        """What raises in the middle leaves nothing, and then the frame can be put."""
        digest = max(line.blobs.iter_digests(), key=lambda d: -line.blobs.header(d).depth)
        data = frame_of(line, digest)

        def raising() -> Iterator[bytes]:
            yield data[: len(data) // 2]
            raise NotFoundError("it went away")

        with pytest.raises(NotFoundError):
            remote.put_if_absent(key_of(digest), MadeContent(len(data), raising))
        assert remote.head(key_of(digest)) is None
        assert remote.put_if_absent(key_of(digest), data)

    def test_lists_frames(self, line: Store, remote: Remote) -> None:
        """A listing has every frame once, with its size, however many answers that takes."""
        with line.blobs.transaction() as transaction:
            for number in range(60):
                transaction.add_bytes(noise(50, number))
            transaction.publish()
        self.send_all(line, remote)
        sizes = {digest: len(frame_of(line, digest)) for digest in line.blobs.iter_digests()}
        found = {key: size for key, size in there(remote).items() if key in sizes}
        assert found == sizes
        keys = [one.key for one in remote.list("blobs")]
        assert len(keys) == len(set(keys))
        assert list(remote.list("backups")) == []

    def test_swaps_what_is_expected(self, line: Store, remote: Remote, tmp_path: Path) -> None:
        """A registry takes the place of the one whose tag it names, and of no other."""
        first = render(line.state(LINE).document)
        self.send_all(line, remote)
        tag = remote.swap(REGISTRY, first, None)
        assert remote.get_tagged(REGISTRY) == (first, tag)
        commit_model(line, tmp_path / "run", step=2e-4)
        second = render(line.state(LINE).document)
        self.send_all(line, remote)
        for expected in (None, type(tag)(tag[:-2] + 'x"')):
            with pytest.raises(ConflictError, match="registry"):
                remote.swap(REGISTRY, second, expected)
        assert remote.get(REGISTRY) == first
        after = remote.swap(REGISTRY, second, tag)
        assert remote.get_tagged(REGISTRY) == (second, after)
        commit_model(line, tmp_path / "run", step=3e-4)
        self.send_all(line, remote)
        with pytest.raises(ConflictError, match="registry"):
            remote.swap(REGISTRY, render(line.state(LINE).document), tag)
        assert remote.get(REGISTRY) == second

    @pytest.mark.parametrize("created", [True, False])
    def test_has_one_winner_of_a_swap(
        self, line: Store, remote: Remote, tmp_path: Path, created: bool
    ) -> None:
        """Of eight that swap one registry, or create it, one does; the others are told."""
        tag = None
        if not created:
            self.send_all(line, remote)
            tag = remote.swap(REGISTRY, render(line.state(LINE).document), None)
        stores = []
        for number in range(8):
            shutil.copytree(line.root, tmp_path / f"pusher{number}")
            stores.append(Store(tmp_path / f"pusher{number}"))
            commit_model(stores[number], tmp_path / "run", step=1e-3 * (number + 1))
            self.send_all(stores[number], remote)
        won: list[bytes] = []

        def run(index: int) -> None:
            data = render(stores[index].state(LINE).document)
            with suppress(ConflictError):
                remote.swap(REGISTRY, data, tag)
                won.append(data)

        at_once(8, run)
        assert len(won) == 1
        assert remote.get(REGISTRY) == won[0]

    def test_is_used_by_many_threads(self, line: Store, remote: Remote) -> None:
        """Threads that put the same frames at once, and read them, see whole ones only."""
        digests = sorted(line.blobs.iter_digests(), key=lambda d: line.blobs.header(d).depth)

        def work(_: int) -> None:
            for digest in digests:
                remote.put_if_absent(key_of(digest), frame_of(line, digest))
                assert remote.get(key_of(digest)) == frame_of(line, digest)
            for key, payload in records_of(line).items():
                remote.put_if_absent(key, payload)
                assert remote.get(key) == payload

        at_once(8, work)
        assert set(digests) <= there(remote).keys()


def frame_of(store: Store, digest: Digest) -> bytes:
    """Return the frame of a blob."""
    return store.blobs.path(digest).read_bytes()


def records_of(store: Store) -> dict[str, bytes]:
    """Return the records of the one model there is, by the keys that they have at a remote."""
    chain = store.registry(LINE).records.chain(store.state(LINE).head)
    return {
        f"models/{LINE}/records/{seq:010d}-{digest_of(data)}.json": data
        for seq, data in sorted(chain.items())
    }
