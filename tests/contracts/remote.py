"""What every remote promises; each is tested by subclasses of `ReadContract` and `WriteContract`."""

from __future__ import annotations

import random
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
from modelstore.remotes.base import EXCLUSIVE_LIMIT, SWAP_LIMIT, Found, Remote
from modelstore.remotes.content import MadeContent
from modelstore.remotes.probe import PREFIX, probe

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
