"""Prune removes what no rule keeps, and frames only when nobody can need them any more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, IntegrityError, RemoteError, StoreError, UsageError
from modelstore.ops.backup import backup
from modelstore.ops.backup_check import check, status
from modelstore.ops.backup_document import Backup, Missing, encode, key_of, names_at
from modelstore.ops.backup_prune import Pruned, plan_prune, prune
from modelstore.ops.backup_retention import BackupPolicy
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.elsewhere import key_of as frame_key
from modelstore.ops.fsck import Level, Subset, fsck
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.resolve import resolve
from modelstore.ops.restore import plan_restore, restore
from modelstore.ops.rm import plan_rm, rm
from modelstore.remotes.base import Remote
from modelstore.remotes.directory import DirectoryRemote, create_directory
from modelstore.store import Store
from modelstore.view import render
from tests.crashes import crashes
from tests.models import write_model
from tests.ops.test_backup import LINE, damage
from tests.ops.watched import WatchedRemote, failing_at, keys_of, refusing

LAST = BackupPolicy(last=1)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[DirectoryRemote]:
    """An empty directory as a remote."""
    found = create_directory(tmp_path / "backups")
    yield found
    found.close()


@pytest.fixture
def two(store: Store, remote: DirectoryRemote, tmp_path: Path) -> list[Backup]:
    """Two backups; a version that the first has is not in the second, and two are."""
    for number in range(3):
        source = write_model(tmp_path / f"run{number}", step=number * 1e-3)
        commit(store, source, LINE, CommitOptions(message=f"number {number}"))
    first = backup(store, remote).backup
    rm(store, plan_rm(store, [resolve(store, f"{LINE}@v1.2")], force=True))
    gc(store, plan_gc(store, purge_now=True))
    second = backup(store, remote).backup
    age(remote, 1)  # what is put in the second in which it is marked counts as put since
    return [first, second]


def age(remote: Remote, hours: float, prefix: str = "") -> None:
    """Let everything at a directory have been put so much earlier."""
    for path in Path(remote.shown, prefix).rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - hours * 3600
            os.utime(path, (then, then))


def pruned(remote: Remote, policy: BackupPolicy = LAST) -> Pruned:
    """Prune in one step."""
    return prune(remote, plan_prune(remote, policy))


def only_in_first(two: list[Backup], remote: Remote) -> set[str]:
    """Return the keys of frames that only the first backup needs."""
    plan = plan_prune(remote, LAST)
    assert [one.name for one in plan.dropped] == [two[0].name]
    return {frame_key(digest) for digest in plan.unneeded}


# --- two runs


def test_frames_go_a_day_after_they_were_marked(
    store: Store, two: list[Backup], remote: DirectoryRemote, tmp_path: Path
) -> None:
    """The first run removes the backup, a run too early nothing, one a day later the frames."""
    gone = only_in_first(two, remote)
    assert gone
    before = keys_of(remote)
    done = pruned(remote)
    assert (done.backups, done.frames, done.waiting) == ((two[0].name,), 0, len(gone))
    assert gone <= keys_of(remote).keys()
    age(remote, 23)
    assert pruned(remote).frames == 0
    age(remote, 1.1)
    done = pruned(remote)
    assert (done.frames, done.waiting) == (len(gone), 0)
    assert done.freed == sum(before[key] for key in gone)
    left = keys_of(remote)
    assert not gone & left.keys()
    assert left.keys() == before.keys() - gone - {key_of(two[0].name)} | {
        key for key in left if key.startswith("sweeps/")
    }
    assert check(remote).sound
    pruned(remote)
    assert not [key for key in keys_of(remote) if key.startswith("sweeps/")]
    copy = restore(remote, plan_restore(remote, tmp_path / "copy")).store
    assert fsck(copy, Level.FULL).sound


def test_what_was_put_since_it_was_marked_stays(two: list[Backup], remote: DirectoryRemote) -> None:
    """A frame that somebody removed and another put again is theirs."""
    gone = sorted(only_in_first(two, remote))
    pruned(remote)
    age(remote, 25)
    again = remote.get(gone[0])
    remote.delete([gone[0]])
    remote.put(gone[0], again)
    assert pruned(remote).frames < len(gone)
    assert gone[0] in keys_of(remote)


def test_what_is_needed_again_is_not_marked_any_more(
    store: Store, two: list[Backup], remote: DirectoryRemote, tmp_path: Path
) -> None:
    """A backup between two runs keeps its frames, and marks begin anew when it goes."""
    gone = only_in_first(two, remote)
    pruned(remote)
    age(remote, 25)
    third = replace(two[0], name="20260101T000000Z-00000000")
    remote.put(key_of(third.name), encode(third))
    kept = BackupPolicy(last=5)
    assert pruned(remote, kept).frames == 0
    age(remote, 25)
    assert (pruned(remote).frames, gone <= keys_of(remote).keys()) == (0, True)
    age(remote, 25)
    assert pruned(remote).frames == len(gone)


def test_what_a_pushed_registry_needs_stays(
    store: Store, two: list[Backup], remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Frames of versions that were pushed to the same place are kept for them."""
    first = restore(remote, plan_restore(remote, tmp_path / "first", at=two[0].name)).store
    remote.put(f"models/{LINE}/registry.json", render(first.state(LINE).document))
    manifest = first.manifest(LINE, resolve(first, f"{LINE}@v1.2").entry)
    for _ in range(3):
        pruned(remote)
        age(remote, 25)
    assert {frame_key(digest) for digest in manifest.blobs()} <= keys_of(remote).keys()
    assert len(names_at(remote)) == 1


def test_a_backup_that_began_before_the_frames_went_is_whole(
    store: Store, two: list[Backup], remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Frames that a prune removes while a backup counts on them are sent again."""
    undo = restore(remote, plan_restore(remote, store.root, [f"{LINE}@v1.2"], at=two[0].name))
    assert undo.versions
    pruned(remote)
    age(remote, 25)
    came: list[Pruned] = []

    def prune_now(_: int, name: str, key: str) -> None:
        if name == "put_if_absent" and not came:
            came.append(pruned(remote))

    done = backup(store, WatchedRemote(remote, prune_now))
    assert came[0].frames > 0
    assert done.backup.complete
    found = check(remote)
    assert found.sound, found.problems


# --- in doubt


@pytest.mark.parametrize("prefix", ["backups", "sweeps", "blobs"])
def test_nothing_goes_where_something_cannot_be_read(
    two: list[Backup], remote: DirectoryRemote, prefix: str
) -> None:
    """A damaged document, mark or header keeps every frame."""
    pruned(remote)
    age(remote, 25)
    needed = {frame_key(digest) for _, digest in two[1].manifests()}
    chosen = [
        k for k in keys_of(remote) if k.startswith(prefix) and (prefix != "blobs" or k in needed)
    ]
    (Path(remote.shown) / chosen[0]).write_bytes(b"nothing of mstore's")
    before = keys_of(remote)
    with pytest.raises(StoreError):
        pruned(remote)
    assert {k for k in before if k.startswith("blobs")} <= keys_of(remote).keys()


def test_nothing_goes_beside_a_registry_that_cannot_be_read(
    two: list[Backup], remote: DirectoryRemote
) -> None:
    """What a pushed registry would need cannot be known if it is damaged."""
    remote.put(f"models/{LINE}/registry.json", b'{"schema":"mstore/registry/1"')
    with pytest.raises(IntegrityError, match="no frame was removed"):
        plan_prune(remote, LAST)


def test_somebody_else_who_writes_meanwhile_stops_it(
    two: list[Backup], remote: DirectoryRemote
) -> None:
    """A backup that appears between looking and removing keeps everything."""
    pruned(remote)
    age(remote, 25)
    before = {key for key in keys_of(remote) if key.startswith("blobs")}

    def back_up(_: int, name: str, key: str) -> None:
        if name == "put" and key.startswith("sweeps"):
            other = replace(two[0], name="20260102T000000Z-00000000")
            remote.put(key_of(other.name), encode(other))

    with pytest.raises(ConflictError, match="meanwhile"):
        pruned(WatchedRemote(remote, back_up))
    assert before <= keys_of(remote).keys()


def test_an_empty_policy_is_refused(two: list[Backup], remote: DirectoryRemote) -> None:
    """Nobody removes all backups by leaving out the rules."""
    with pytest.raises(UsageError, match="no rule"):
        plan_prune(remote, BackupPolicy())


def test_planning_changes_nothing(two: list[Backup], remote: DirectoryRemote) -> None:
    """A dry run writes nothing at the remote."""
    before = keys_of(remote)
    plan = plan_prune(
        WatchedRemote(remote, refusing("put", "put_if_absent", "swap", "delete")), LAST
    )
    assert plan.dropped
    assert plan.unneeded
    assert keys_of(remote) == before


def test_a_destination_that_refuses_deletes_says_so(
    two: list[Backup], remote: DirectoryRemote
) -> None:
    """Append-only is no silent success."""
    before = keys_of(remote)
    with pytest.raises(RemoteError, match="refuses to delete"):
        pruned(WatchedRemote(remote, refusing("delete")))
    assert keys_of(remote) == before


def test_a_prune_that_fails_or_dies_anywhere_leaves_what_is_kept(
    two: list[Backup], remote: DirectoryRemote, tmp_path: Path
) -> None:
    """What stays can be restored wherever the network ends; another run does the rest."""
    pruned(remote)
    for step in range(1, 200, 2):
        age(remote, 25)
        try:
            pruned(WatchedRemote(remote, failing_at(step)))
        except RemoteError:
            assert check(remote).sound
        else:
            break
    for step in range(1, 200, 5):
        age(remote, 25)
        if not crashes(lambda: pruned(create_directory(tmp_path / "backups")), step):
            break
        assert check(remote).sound
    copy = restore(remote, plan_restore(remote, tmp_path / "copy")).store
    assert fsck(copy, Level.FULL).sound


# --- check and status


def test_a_check_names_what_is_lost(
    two: list[Backup], store: Store, remote: DirectoryRemote
) -> None:
    """A frame that is gone or damaged is told with the versions that need it, in every backup."""
    manifest = store.manifest(LINE, resolve(store, f"{LINE}@v1.1").entry)
    first = store.manifest(LINE, resolve(store, f"{LINE}@v1.0").entry)
    digest = min(manifest.blobs() - first.blobs())
    remote.delete([frame_key(digest)])
    found = check(remote)
    assert {(one.backup, f"{LINE}@v1.1" in one.versions) for one in found.problems} == {
        (one.name, True) for one in two
    }
    assert all(digest in one.what for one in found.problems)


def test_a_check_of_all_parts_reads_every_byte(two: list[Backup], remote: DirectoryRemote) -> None:
    """A flipped bit within a block is found by the part whose turn it is, and no other."""
    frames = {key: size for key, size in keys_of(remote).items() if key.startswith("blobs/")}
    assert sum(check(remote, Subset(n, 3)).bytes_read for n in (1, 2, 3)) == sum(frames.values())
    path = Path(remote.shown) / max(frames, key=lambda key: frames[key])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    assert check(remote).sound
    assert sum(not check(remote, Subset(n, 3)).sound for n in (1, 2, 3)) == 1


def test_a_check_goes_on_after_a_document_that_cannot_be_read(
    two: list[Backup], remote: DirectoryRemote
) -> None:
    """One damaged document does not hide what is wrong with another."""
    damage(Path(remote.shown) / key_of(two[0].name))
    found = check(remote)
    assert [one.backup for one in found.problems] == [two[0].name]
    assert found.backups == 2


def test_status_counts_complete_backups_that_are_not_of_the_future(
    two: list[Backup], remote: DirectoryRemote
) -> None:
    """An incomplete one, or one of a wrong clock, does not hide that the last good one is old."""
    now = datetime(2030, 1, 10, tzinfo=timezone.utc)
    for one in two:
        remote.delete([key_of(one.name)])
    assert status(remote, now).is_older_than(timedelta(days=3650))
    lost = backup_named(two[1], "20300108T000000Z-00000000")
    remote.put(key_of(lost.name), encode(lost))
    assert status(remote, now).age == timedelta(days=2)
    for name in ("20300109T000000Z-00000000", "20310101T000000Z-00000000"):
        missing = replace(backup_named(two[1], name), missing=_one_missing(two[1]))
        document = missing if name < "2031" else backup_named(two[1], name)
        remote.put(key_of(name), encode(document))
    found = status(remote, now)
    assert found.newest is not None
    assert found.good is not None
    assert (found.newest.name[:8], found.good.name[:8]) == ("20300109", "20300108")
    assert found.future == ("20310101T000000Z-00000000",)
    assert found.is_older_than(timedelta(days=1))
    assert not found.is_older_than(timedelta(days=2))


def backup_named(one: Backup, name: str) -> Backup:
    """Return the same backup under another name."""
    return replace(one, name=name)


def _one_missing(one: Backup) -> tuple[Missing, ...]:
    ref, digest = next(iter(one.manifests()))
    return (Missing(digest, "is damaged", (ref,)),)
