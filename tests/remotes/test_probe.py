from __future__ import annotations

from collections.abc import Iterable

import pytest

from modelstore.errors import ConflictError, NotFoundError, RemoteError
from modelstore.remotes.base import Remote, Tag
from modelstore.remotes.cloud import CloudRemote, Tagging, memory_remote
from modelstore.remotes.keyfile import KeyFile
from modelstore.remotes.probe import PREFIX, probe, require_registries
from modelstore.remotes.sealed import create_sealed


def _memory() -> tuple[object, object, str, Tagging]:
    remote = memory_remote()
    return remote._store, remote._store, "odd://", Tagging.QUOTED


class Overwriting(CloudRemote):
    """A server that takes every write, as `rclone serve s3` does."""

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Put whatever is expected."""
        self.put(key, data)
        return self.get_tagged(key)[1]


class Replacing(CloudRemote):
    """A server that honours creation and compares nothing, as one of those that were tried."""

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Create only if there is nothing; replace anything."""
        if expected is None:
            return super().swap(key, data, None)
        self.put(key, data)
        return self.get_tagged(key)[1]


class Refusing(CloudRemote):
    """A server that refuses every condition, as Ceph does where the tag has quotation marks."""

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Refuse."""
        raise ConflictError("no")


class Whole(CloudRemote):
    """A server that gives no ranges."""

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Refuse."""
        raise RemoteError("no")


class Keeping(CloudRemote):
    """A server where nothing may be deleted."""

    def delete(self, keys: Iterable[str]) -> None:
        """Refuse."""
        raise RemoteError("no")


@pytest.mark.parametrize(
    ("kind", "creates", "updates", "ranges"),
    [
        (CloudRemote, True, True, True),
        (Overwriting, False, False, True),
        (Replacing, True, False, True),
        (Refusing, True, False, True),
        (Whole, True, True, False),
        (Keeping, True, True, True),
    ],
)
def test_tells_what_is_honoured(
    kind: type[CloudRemote], creates: bool, updates: bool, ranges: bool
) -> None:
    """Each thing that servers were seen to get wrong is told, and registries are refused there."""
    remote: Remote = kind(*_memory())  # type: ignore[arg-type]
    found = probe(remote)
    assert (found.creates, found.updates, found.ranges) == (creates, updates, ranges)
    assert found.keeps_registries == (creates and updates)
    if found.keeps_registries:
        assert require_registries(remote) == found
    else:
        assert found.reason
        with pytest.raises(RemoteError, match="cannot keep registries") as caught:
            require_registries(remote)
        assert caught.value.hint


def test_what_a_probe_leaves_does_not_harm() -> None:
    """Where nothing may be deleted a probe stays, beside sealed values as well."""
    inner = Keeping(*_memory())  # type: ignore[arg-type]
    probe(inner)
    assert len(list(inner.list(PREFIX))) == 1
    remote = create_sealed(inner, KeyFile(bytes(32)))
    remote.put("a", b"1")
    probe(inner)
    assert [found.key for found in remote.list()] == ["a"]


def test_a_remote_that_is_not_there_is_an_error(tmp_path: object) -> None:
    """A probe does not call a remote that cannot be reached unfit."""

    class Gone(CloudRemote):
        def put(self, key: str, source: object) -> None:
            raise NotFoundError("gone")

    with pytest.raises(NotFoundError):
        probe(Gone(*_memory()))  # type: ignore[arg-type]
