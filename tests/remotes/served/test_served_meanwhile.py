"""Pushes to a server while something else goes on there, or is wrong with it."""

from __future__ import annotations

import errno
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modelstore import disk
from modelstore.errors import (
    ConflictError,
    DiskFullError,
    NotFoundError,
    RemoteError,
    StoreError,
)
from modelstore.hashing import Digest, digest_of
from modelstore.ops.clone import clone
from modelstore.ops.elsewhere import key_of, there
from modelstore.ops.gc import gc, plan_gc
from modelstore.remotes.base import Remote
from modelstore.remotes.directory import DirectoryRemote
from modelstore.remotes.served import ServedRemote
from modelstore.store import Store, create
from modelstore.syscalls import Syscalls
from modelstore.view import render
from tests.cli.program import run
from tests.contracts.remote import (
    REGISTRY,
    frame_of,
)
from tests.faults import exchanged
from tests.ops.remotes import LINE, assert_sound, commit_model, files_out, pull_from, push_to
from tests.remotes.served.conftest import at, send_frames
from tests.server.live import TOKEN, Live


def test_of_a_push_and_a_commit_there_one_is_told(
    served: Store, store: Store, remote: Remote, tmp_path: Path
) -> None:
    """What is committed at the server between two pushes is never overwritten."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    commit_model(served, tmp_path / "run", step=1e-4)
    commit_model(store, tmp_path / "run", step=2e-4)
    with pytest.raises(ConflictError, match="has changes of m that are not here"):
        push_to(store, remote)
    assert pull_from(store, remote, rebase=True).renamed == {"v1.1": "v1.2"}
    push_to(store, remote)
    assert [str(version) for version in served.state(LINE).versions()] == ["v1.0", "v1.1", "v1.2"]
    assert_sound(served)


def test_a_history_that_took_ours_over_is_followed(
    served: Store, store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """After a rebase elsewhere both the server and who pulls have every version in its new place."""
    (tmp_path / "elsewhere").mkdir()
    third = create(tmp_path / "third" / "tuned_models")
    with closing(DirectoryRemote(tmp_path / "elsewhere")) as elsewhere:
        commit_model(store, tmp_path / "run")
        push_to(store, elsewhere)
        pull_from(other, elsewhere)
        commit_model(store, tmp_path / "run", step=1e-4)
        push_to(store, remote)
        pull_from(third, remote)
        commit_model(other, tmp_path / "run", step=2e-4)
        push_to(other, elsewhere)
        assert pull_from(store, elsewhere, rebase=True).renamed == {"v1.1": "v1.2"}
        push_to(store, elsewhere)
        assert pull_from(third, elsewhere).versions == ("v1.1",)
    push_to(store, remote)
    for one in (served, third):
        assert one.state(LINE).document == store.state(LINE).document
        for version in ("v1.0", "v1.1", "v1.2"):
            assert files_out(one, version) == files_out(store, version)
            assert (one.version_dir(LINE, version) / "manifest.json").is_file()
        assert_sound(one)


@pytest.mark.parametrize("purge", [False, True])
def test_a_gc_in_the_middle_of_a_push(
    served: Store, store: Store, remote: Remote, tmp_path: Path, purge: bool
) -> None:
    """What waits in the trash is taken back by the registry; what was purged is said to be missing."""
    commit_model(store, tmp_path / "run")
    send_frames(store, remote)
    done = gc(served, plan_gc(served, purge_now=purge))
    assert done.frames > 3
    data = render(store.state(LINE).document)
    if purge:
        with pytest.raises(RemoteError, match=r"run the command again|push it again"):
            remote.swap(REGISTRY, data, None)
        assert served.models() == []
        push_to(store, remote)
    else:
        remote.swap(REGISTRY, data, None)
    assert files_out(served, "v1.0") == files_out(store, "v1.0")
    gc(served, plan_gc(served, purge_now=True))
    assert_sound(served)


def test_a_full_disk_is_told(
    served: Store, store: Store, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The push says that the server's disk is full, and the next one goes on."""
    commit_model(store, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(disk, "free_space", lambda path: 10)
        with pytest.raises(DiskFullError, match="does not take") as full:
            push_to(store, remote)
        assert "there" in full.value.hint
    for left in (0, 2, 8):
        with exchanged(_Filling(left)), pytest.raises(DiskFullError, match="does not take"):
            push_to(store, remote)
        assert served.models() == []
    push_to(store, remote)
    assert_sound(served)


class _Filling(Syscalls):
    """A disk that takes so many writes, and then nothing."""

    def __init__(self, left: int) -> None:
        self._left = left

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def write(self, handle: int, data: Any) -> int:
        """Write, while there is room."""
        self._count()
        return super().write(handle, data)

    def pwrite(self, handle: int, data: Any, offset: int) -> int:
        """Write, while there is room."""
        self._count()
        return super().pwrite(handle, data, offset)


def test_damage_at_the_server_is_told(
    served: Store, store: Store, remote: Remote, tmp_path: Path
) -> None:
    """A push on top of damage there is refused, and says where to mend it."""
    commit_model(store, tmp_path / "run")
    send_frames(store, remote)
    path = served.blobs.path(max(served.blobs.iter_digests()))
    path.chmod(0o644)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(RemoteError, match=r"the store is damaged: .*mstore fsck --repair"):
        push_to(store, remote)
    assert served.models() == []


def test_a_large_store_is_listed_in_a_few_requests(
    served: Store, remote: Remote, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 frames take two answers; each is there once."""
    for number in range(10_001):
        digest = digest_of(b"%d" % number)
        served.blobs.path(Digest(digest)).write_bytes(b"x")
    asked = []
    plain = ServedRemote._page
    monkeypatch.setattr(
        ServedRemote, "_page", lambda self, *words: asked.append(words) or plain(self, *words)
    )
    assert len(there(remote)) == 10_001
    assert len(asked) == 2


ODD = [
    b"", b"[]", b"{}", b'{"keys":1}', b'{"keys":[["../x",1]]}', b'{"keys":[["x",-1,2]]}',
    b'{"keys":[["x","1"]]}', b'{"keys":[],"next":1}', b'{"keys":[],"next":""}', b"[" * 100_000,
]  # fmt: skip


def test_a_listing_that_cannot_be_understood_is_an_error(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is not a list of keys is taken for one, and none goes on for ever."""
    for data in ODD:
        monkeypatch.setattr(ServedRemote, "_body", lambda self, *words, data=data: data)
        with at(live.url, {}) as remote, pytest.raises(StoreError, match="cannot be understood"):
            list(remote.list())


def test_a_store_is_mended_and_restored_from_a_server(
    served: Store, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that was lost in a clone comes back; backups there are none, and that is said."""
    commit_model(served, tmp_path / "run")
    made = clone(live.url, tmp_path / "clone").store
    lost = max(made.blobs.iter_digests(), key=lambda d: made.blobs.header(d).raw_size)
    made.blobs.path(lost).unlink()
    assert run("-C", made.root, "fsck", "--repair", "--from", live.url).code in {0, 1}
    assert frame_of(made, lost) == frame_of(served, lost)
    assert_sound(made)
    refused = run("restore", live.url, tmp_path / "restored")
    assert refused.code == 4
    assert "no backup" in refused.err
    monkeypatch.setenv("MSTORE_TOKEN", TOKEN)
    refused = run("-C", made.root, "backup", live.url)
    assert (refused.code, "takes pushes and no backups" in refused.err) == (7, True)


def test_what_is_gone_is_told(served: Store, remote: Remote, other: Store, tmp_path: Path) -> None:
    """A version whose frames the server has lost is not pulled."""
    commit_model(served, tmp_path / "run")
    lost = max(served.blobs.iter_digests(), key=lambda d: served.blobs.header(d).raw_size)
    served.blobs.path(lost).unlink()
    with pytest.raises(StoreError, match=str(lost)):
        pull_from(other, remote)
    assert not other.registry(LINE).exists()
    with pytest.raises(NotFoundError):
        remote.get(key_of(lost))
