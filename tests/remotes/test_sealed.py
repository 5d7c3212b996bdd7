from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.errors import (
    BadNameError,
    ConflictError,
    IntegrityError,
    NewerFormatError,
    NotFoundError,
    WrongKeyError,
)
from modelstore.remotes.base import Found, Remote
from modelstore.remotes.cloud import CloudRemote, memory_remote
from modelstore.remotes.directory import create_directory
from modelstore.remotes.keyfile import (
    MIN_COST,
    KeyFile,
    Passphrase,
    Secret,
    new_key_file,
    parse_key_file,
)
from modelstore.remotes.sealed import (
    KEY,
    SealedRemote,
    change_secret,
    create_sealed,
    is_sealed,
    open_sealed,
)
from modelstore.remotes.sealing import CHUNK, PREFIX_SIZE, seal_name, sealed_size
from tests.contracts.remote import WriteContract, noise

FILE = KeyFile(bytes(range(32)))


class SealedContract(WriteContract):
    """A sealed remote is a remote."""

    def check_listed(self, remote: Remote, listed: list[Found]) -> None:
        """Assert that a listing tells what values take when they are sealed."""
        for found in listed:
            assert found.size == sealed_size(len(remote.get(found.key)))
            assert found.tag in {None, remote.get_tagged(found.key)[1]}


class TestSealedMemory(SealedContract):
    """Over an object store."""

    @pytest.fixture
    def remote(self) -> SealedRemote:
        """Return an empty sealed remote."""
        return create_sealed(memory_remote(), FILE)


class TestSealedDirectory(SealedContract):
    """Over a directory."""

    MANY = 300

    @pytest.fixture
    def remote(self, tmp_path: Path) -> SealedRemote:
        """Return an empty sealed remote."""
        return create_sealed(create_directory(tmp_path / "remote"), FILE)


@pytest.fixture
def inner() -> CloudRemote:
    """Return what the sealed remote lies in."""
    return memory_remote()


@pytest.fixture
def remote(inner: CloudRemote) -> SealedRemote:
    """Return an empty sealed remote."""
    return create_sealed(inner, FILE)


def lying(remote: SealedRemote, key: str) -> str:
    """Return under which key the value ``key`` lies."""
    return seal_name(remote._keys, key)


def test_shows_neither_names_nor_contents(inner: CloudRemote, remote: SealedRemote) -> None:
    """What lies at the remote has no byte of a name or a value, and tells no two values alike."""
    secret = b"attack at dawn, " * 8
    remote.put("refs/llama_1b", secret)
    remote.put("refs/llama_8b", secret)
    stored = {found.key: inner.get(found.key) for found in inner.list()}
    del stored[KEY]
    assert len(stored) == 2
    for key, data in stored.items():
        assert not any(word in key for word in ("refs", "llama", "1b"))
        assert b"attack" not in data
    first, second = stored.values()
    assert first[8:16] == second[8:16]
    assert first[16:] != second[16:]


def test_sizes_are_told_roughly(inner: CloudRemote, remote: SealedRemote) -> None:
    """Values of nearly the same size take the same room."""
    for number, size in enumerate([0, 1, 200, 256]):
        remote.put(f"small/{number}", bytes(size))
    for number, size in enumerate([1_000_001, 1_010_000]):
        remote.put(f"large/{number}", bytes(size))
    sizes = {found.size for found in inner.list() if found.key != KEY}
    assert len(sizes) == 2


def test_the_same_name_is_not_sent_twice(inner: CloudRemote, remote: SealedRemote) -> None:
    """Another session with the same key finds what is there already."""
    assert remote.put_if_absent("blobs/00/abc", b"1")
    again = open_sealed(inner, FILE)
    assert not again.put_if_absent("blobs/00/abc", b"1")
    assert [found.key for found in again.list("blobs")] == ["blobs/00/abc"]


def test_a_listing_of_a_prefix_asks_for_that_prefix(
    inner: CloudRemote, remote: SealedRemote
) -> None:
    """What lies below one prefix lies below one sealed prefix."""
    remote.put("refs/a", b"1")
    remote.put("refs/b/c", b"1")
    remote.put("blobs/a", b"1")
    sealed = lying(remote, "refs")
    assert sorted(found.key for found in inner.list(sealed)) == sorted(
        [lying(remote, "refs/a"), lying(remote, "refs/b/c")]
    )


# --- who changes what lies there is found out


@pytest.mark.parametrize("size", [0, 10, 2 * CHUNK, 2 * CHUNK + 1])
def test_every_changed_byte_is_noticed(inner: CloudRemote, remote: SealedRemote, size: int) -> None:
    """One bit anywhere, a byte more and any byte less make a value unreadable."""
    remote.put("v", noise(size))
    key = lying(remote, "v")
    data = inner.get(key)
    places = {*range(0, PREFIX_SIZE + 20, 5), *range(PREFIX_SIZE, len(data), 9973), len(data) - 1}
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1
        inner.put(key, changed)
        assert_refused(remote, "v")
    for changed in (data + b"\0", data[:-1], data[: PREFIX_SIZE + 1], data[:PREFIX_SIZE], b""):
        inner.put(key, changed)
        assert_refused(remote, "v")


def assert_refused(remote: SealedRemote, key: str) -> None:
    """Assert that ``key`` can neither be read at once nor as a stream."""
    for read in (lambda: remote.get(key), lambda: b"".join(remote.stream(key))):
        with pytest.raises((IntegrityError, WrongKeyError, NewerFormatError)):
            read()


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranges_are_the_values_own(remote: SealedRemote, data: st.DataObject) -> None:
    """Any range of a sealed value is that range of the value."""
    size = data.draw(st.sampled_from([1, 255, 257, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 9]))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    remote.put("v", noise(size))
    assert remote.get_range("v", start, stop) == noise(size)[start:stop]


def test_chunks_cannot_be_moved(inner: CloudRemote, remote: SealedRemote) -> None:
    """Chunks that are exchanged, repeated or left out are noticed, in ranges, too."""
    remote.put("v", noise(4 * CHUNK))
    key, step = lying(remote, "v"), CHUNK + 16
    data = inner.get(key)
    prefix = data[:PREFIX_SIZE]
    chunks = [data[at : at + step] for at in range(PREFIX_SIZE, len(data), step)]
    for order in ([1, 0, 2, 3], [0, 0, 2, 3], [0, 1, 3], [0, 1, 2, 3, 3], [3, 1, 2, 0]):
        inner.put(key, prefix + b"".join(chunks[index] for index in order))
        assert_refused(remote, "v")
    inner.put(key, prefix + chunks[1] + chunks[0] + chunks[2] + chunks[3])
    with pytest.raises(IntegrityError):
        remote.get_range("v", 10, 20)


def test_values_cannot_be_swapped(inner: CloudRemote, remote: SealedRemote) -> None:
    """A value that is moved to another name is refused, though it was sealed with this key."""
    remote.put("a/1", b"one")
    remote.put("a/2", b"two")
    first, second = lying(remote, "a/1"), lying(remote, "a/2")
    one, two = inner.get(first), inner.get(second)
    inner.put(first, two)
    inner.put(second, one)
    for key in ("a/1", "a/2"):
        assert_refused(remote, key)
        with pytest.raises(IntegrityError):
            remote.head(key)


def test_names_cannot_be_moved_or_made_up(inner: CloudRemote, remote: SealedRemote) -> None:
    """A listing that has a name at another place, or one that was not sealed, is refused."""
    remote.put("a/b", b"1")
    segment = lying(remote, "a/b").split("/")[1]
    for planted in (segment, "plain", f"{segment}x", f"{lying(remote, 'c')}/{segment}"):
        inner.put(planted, b"x")
        with pytest.raises(IntegrityError):
            list(remote.list())
        inner.delete([planted])
    assert [found.key for found in remote.list()] == ["a/b"]


def test_a_name_that_would_be_too_long_is_refused(remote: SealedRemote) -> None:
    """The longest segment that fits is taken, one more character is not."""
    remote.put("x" * 128, b"1")
    assert [found.key for found in remote.list()] == ["x" * 128]
    with pytest.raises(BadNameError):
        remote.put("x" * 129, b"1")


# --- keys


@pytest.mark.parametrize(
    "secret", [Passphrase("correct horse"), parse_key_file(new_key_file())], ids=["phrase", "file"]
)
def test_only_the_right_secret_opens_it(inner: CloudRemote, secret: Secret) -> None:
    """The secret opens it again; any other is told so, with the exit code for that."""
    create_sealed(inner, secret, cost=MIN_COST).put("a", b"1")
    assert open_sealed(inner, secret).get("a") == b"1"
    for wrong in (Passphrase("wrong"), parse_key_file(new_key_file())):
        with pytest.raises(WrongKeyError) as caught:
            open_sealed(inner, wrong)
        assert caught.value.exit_code == 12


def test_the_secret_can_be_changed(inner: CloudRemote) -> None:
    """A new secret opens what was sealed before, and the old one does no longer."""
    create_sealed(inner, FILE).put("a", b"1")
    new = Passphrase("a new one")
    change_secret(inner, FILE, new, cost=MIN_COST)
    assert open_sealed(inner, new).get("a") == b"1"
    with pytest.raises(WrongKeyError):
        open_sealed(inner, FILE)


def test_values_of_another_key_are_told(inner: CloudRemote, remote: SealedRemote) -> None:
    """A value that another key sealed is not called damaged."""
    other = create_sealed(memory_remote(), KeyFile(bytes(32)))
    other.put("v", b"1")
    inner.put(lying(remote, "v"), other._inner.get(lying(other, "v")))
    with pytest.raises(WrongKeyError):
        remote.get("v")


def test_only_an_empty_remote_is_sealed(inner: CloudRemote) -> None:
    """Where something lies already, sealed or not, nothing is sealed over it."""
    inner.put("plain", b"1")
    with pytest.raises(ConflictError):
        create_sealed(inner, FILE)
    assert not is_sealed(inner)
    with pytest.raises(NotFoundError):
        open_sealed(inner, FILE)
    inner.delete(["plain"])
    create_sealed(inner, FILE)
    assert is_sealed(inner)
    with pytest.raises(ConflictError):
        create_sealed(inner, FILE)


@pytest.mark.parametrize("name", ["kdf", "salt", "check", "wrapped", "n", "r", "p", "schema"])
@pytest.mark.parametrize("value", ["", "00", "zz", 1 << 40, 1, None, "file"])
def test_a_damaged_key_is_refused(inner: CloudRemote, name: str, value: object) -> None:
    """Whatever is changed in sealed.json, opening fails with an error that says why."""
    secret = Passphrase("x")
    fields = json.loads(SEALED)
    if fields[name] == value:
        return
    inner.put(KEY, json.dumps(fields | {name: value}).encode())
    with pytest.raises((IntegrityError, WrongKeyError, NewerFormatError)):
        open_sealed(inner, secret)


def _sealed_json() -> bytes:
    inner = memory_remote()
    create_sealed(inner, Passphrase("x"), cost=MIN_COST)
    return inner.get(KEY)


SEALED = _sealed_json()
