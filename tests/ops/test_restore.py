"""A restore brings back what a backup holds, and overwrites nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from modelstore.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    RemoteError,
    StoreError,
    UsageError,
)
from modelstore.ops.backup import backup
from modelstore.ops.backup_document import encode, find, key_of, new_name, sealed
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.elsewhere import key_of as frame_key
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.pointer import set_active, set_alias
from modelstore.ops.resolve import resolve
from modelstore.ops.restore import Restored, plan_restore, restore
from modelstore.ops.rm import plan_rm, rm
from modelstore.remotes.base import Remote
from modelstore.remotes.directory import DirectoryRemote, create_directory
from modelstore.store import Store, create
from tests.crashes import crashes
from tests.models import files_of, write_model
from tests.ops.test_backup import LINE, OTHER, all_files, damage, same_content
from tests.ops.watched import WatchedRemote, failing_at


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A model with three versions, and another with one."""
    for number in range(3):
        source = write_model(tmp_path / f"run{number}", step=number * 1e-3)
        commit(store, source, LINE, CommitOptions(message=f"number {number}"))
    commit(store, write_model(tmp_path / "other", seed=9), OTHER, CommitOptions(message="other"))
    set_active(store, resolve(store, f"{LINE}@v1.1"))
    set_alias(store, "best", resolve(store, f"{LINE}@v1.2"))
    return store


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[DirectoryRemote]:
    """An empty directory as a remote."""
    found = create_directory(tmp_path / "backups")
    yield found
    found.close()


def bring(remote: Remote, place: Path, *refs: str, at: str = "", rebase: bool = False) -> Restored:
    """Restore in one step."""
    return restore(remote, plan_restore(remote, place, refs, at=at, rebase=rebase))


def versions(store: Store, model: str = LINE) -> dict[str, str]:
    """Return the ids of a model's versions."""
    found = store.state(LINE if model == LINE else OTHER).entries()
    return {str(entry.version): str(entry.id) for entry in found}


# --- what comes


def test_one_version_comes_alone(line: Store, remote: DirectoryRemote, tmp_path: Path) -> None:
    """A version has its number, its metadata and its bytes, and nothing else comes."""
    backup(line, remote)
    back = bring(remote, tmp_path / "copy", f"{LINE}@v1.2").store
    assert versions(back) == {"v1.2": versions(line)["v1.2"]}
    assert back.models() == [LINE]
    assert back.state(LINE).active == "v1.2"
    assert back.state(LINE).aliases == {"best": "v1.2"}
    theirs = all_files(line, tmp_path / "out1")
    ours = all_files(back, tmp_path / "out2")
    assert ours == {path: theirs[path] for path in theirs if f"{LINE}@v1.2/" in path}
    assert fsck(back, Level.FULL).sound


@pytest.mark.parametrize("ref", ["ACTIVE", "best", "latest", "v1.1", "digest"])
def test_versions_are_named_as_elsewhere(
    line: Store, remote: DirectoryRemote, tmp_path: Path, ref: str
) -> None:
    """ACTIVE, aliases, numbers and digests mean what they meant when the backup was made."""
    backup(line, remote)
    text = versions(line)["v1.0"][:12] if ref == "digest" else f"{LINE}@{ref}"
    expected = {"ACTIVE": "v1.1", "best": "v1.2", "latest": "v1.2", "v1.1": "v1.1"}
    back = bring(remote, tmp_path / "copy", text)
    assert [one.now for one in back.versions] == [f"{LINE}@{expected.get(ref, 'v1.0')}"]


def test_files_are_written_while_they_are_proved(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Versions come with their files, byte for byte; again, only what is missing is written."""
    backup(line, remote)
    root = tmp_path / "copy"
    back = restore(remote, plan_restore(remote, root), files=True).store
    for number in range(3):
        source = files_of(tmp_path / f"run{number}")
        assert files_of(root / LINE / f"v1.{number}").items() >= source.items()
    weights = root / LINE / "v1.1" / "model.safetensors"
    weights.unlink()
    restore(remote, plan_restore(remote, root), files=True)
    assert weights.read_bytes() == files_of(tmp_path / "run1")["model.safetensors"]
    assert not list((back.meta / "tmp").iterdir())
    assert fsck(back, Level.FULL).sound


def test_a_changed_file_is_not_overwritten_by_a_restore(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """What was changed in a version's directory stays, and the restore says so."""
    backup(line, remote)
    root = tmp_path / "copy"
    restore(remote, plan_restore(remote, root, [f"{LINE}@v1.2"]), files=True)
    config = root / LINE / "v1.2" / "config.json"
    config.write_text("mine")
    with pytest.raises(ConflictError):
        restore(remote, plan_restore(remote, root, [f"{LINE}@v1.2"]), files=True)
    assert config.read_text() == "mine"


def test_one_model_comes_with_its_registry(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Its history, ACTIVE and aliases are those of the backup."""
    backup(line, remote)
    back = bring(remote, tmp_path / "copy", LINE).store
    assert back.models() == [LINE]
    assert back.state(LINE).document == line.state(LINE).document
    assert back.registry(LINE).journal() == line.registry(LINE).journal()
    commit(back, write_model(tmp_path / "next", step=5e-3), LINE, CommitOptions(message="on"))
    assert list(versions(back)) == ["v1.0", "v1.1", "v1.2", "v1.3"]
    assert fsck(back, Level.FULL).sound


def test_what_there_is_not_is_told(line: Store, remote: DirectoryRemote, tmp_path: Path) -> None:
    """A mistyped version, model or backup is an error before anything is written."""
    with pytest.raises(NotFoundError, match="no backup at"):
        bring(remote, tmp_path / "copy")
    backup(line, remote)
    for ref in (f"{LINE}@v9.9", "nobody", "nobody@v1.0"):
        with pytest.raises(NotFoundError, match="the backup has no version"):
            bring(remote, tmp_path / "copy", ref)
    with pytest.raises(NotFoundError, match="may be of"):
        bring(remote, tmp_path / "copy", "v1.0")
    with pytest.raises(UsageError, match="counts steps"):
        bring(remote, tmp_path / "copy", f"{LINE}@ACTIVE~1")
    with pytest.raises(NotFoundError, match="no backup whose name"):
        bring(remote, tmp_path / "copy", at="20200101T000000Z")
    with pytest.raises(NotFoundError, match="no backup so early"):
        bring(remote, tmp_path / "copy", at="2020-01-01")
    with pytest.raises(UsageError, match="neither"):
        bring(remote, tmp_path / "copy", at="yesterday")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    with pytest.raises(ConflictError, match="not empty"):
        bring(remote, tmp_path / "full")
    assert not (tmp_path / "copy").exists()


def test_a_state_of_the_past_is_chosen_by_name_or_time(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """A date means the last backup of that day, a time the last one by then."""
    first = backup(line, remote).backup
    old = replace(first, name="20240131T120000Z-00000000", created_at="2024-01-31T12:00:00Z")
    older = replace(first, name="20240130T120000Z-00000000", created_at="2024-01-30T12:00:00Z")
    for one in (old, older):
        remote.put(key_of(one.name), encode(one))
    commit(line, write_model(tmp_path / "new", step=9e-3), LINE, CommitOptions(message="new"))
    last = backup(line, remote).backup
    chosen = {
        "": last.name,
        first.name: first.name,
        first.name[:20]: first.name,
        "2024-01-31": old.name,
        "2024-01-31T11:59:59Z": older.name,
        "2024-01-31T13:00:00+01:00": old.name,
        "2024-01-31 12:00": old.name,
    }
    assert {at: find(remote, at).name for at in chosen} == chosen
    assert "v1.3" not in versions(bring(remote, tmp_path / "copy", at=first.name).store)
    assert "v1.3" in versions(bring(remote, tmp_path / "copy2").store)


# --- into a store that exists


def test_nothing_happens_where_all_is_there(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Restoring into the very store changes no file."""
    backup(line, remote)
    before = files_of(line.root)
    done = bring(remote, line.root)
    assert (done.versions, done.frames) == ((), 0)
    assert len(done.present) == 4
    after = files_of(line.root)
    assert {p: d for p, d in after.items() if "locks" not in p} == {
        p: d for p, d in before.items() if "locks" not in p
    }


def test_newer_things_stay(line: Store, remote: DirectoryRemote, tmp_path: Path) -> None:
    """What was committed, moved and edited since the backup is left as it is."""
    backup(line, remote)
    commit(line, write_model(tmp_path / "new", step=9e-3), LINE, CommitOptions(message="new"))
    set_active(line, resolve(line, f"{LINE}@v1.3"))
    (line.root / LINE / "v1.0" / "README.md").write_text("edited since")
    before = line.state(LINE).document
    bring(remote, line.root)
    assert line.state(LINE).document == before
    assert (line.root / LINE / "v1.0" / "README.md").read_text() == "edited since"


def test_what_was_removed_since_comes_back(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """A removed and purged version returns under its own number, as one further change."""
    backup(line, remote)
    ids = versions(line)
    rm(line, plan_rm(line, [resolve(line, f"{LINE}@v1.0")], force=True))
    gc(line, plan_gc(line, purge_now=True))
    seq = line.state(LINE).seq
    done = bring(remote, line.root, f"{LINE}@v1.0")
    assert [one.now for one in done.versions] == [f"{LINE}@v1.0"]
    assert versions(line) == ids
    assert (line.state(LINE).seq, line.state(LINE).removed()) == (seq + 1, [])
    assert line.state(LINE).active == "v1.1"
    assert fsck(line, Level.FULL).sound


def test_lost_frames_and_small_files_come_back(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Versions that are registered here, but not whole, are completed."""
    backup(line, remote)
    before = all_files(line, tmp_path / "out1")
    for digest in list(line.blobs.iter_digests())[::2]:
        line.blobs.path(digest).unlink()
    (line.root / LINE / "v1.1" / "manifest.json").unlink()
    bring(remote, line.root)
    assert all_files(line, tmp_path / "out2") == before
    assert fsck(line, Level.FULL).findings == ()


def test_an_older_store_gets_what_it_lacks(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """A store that was itself restored from an earlier backup takes the versions of a later one."""
    early = backup(line, remote).backup
    commit(line, write_model(tmp_path / "new", step=9e-3), LINE, CommitOptions(message="new"))
    backup(line, remote)
    old = bring(remote, tmp_path / "old", at=early.name).store
    done = bring(remote, old.root)
    assert [one.now for one in done.versions] == [f"{LINE}@v1.3"]
    assert versions(old) == versions(line)
    assert fsck(old, Level.FULL).sound


def test_another_history_is_refused_unless_rebased(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """A model of the same name that was made otherwise keeps its versions; others come behind."""
    backup(line, remote)
    other = create(tmp_path / "elsewhere")
    commit(other, write_model(tmp_path / "x", seed=77), LINE, CommitOptions(message="not that"))
    before = versions(other)
    with pytest.raises(ConflictError, match="another history"):
        bring(remote, other.root, LINE)
    assert versions(other) == before
    done = bring(remote, other.root, LINE, rebase=True)
    assert [(one.was, one.now) for one in done.versions] == [
        (f"{LINE}@v1.0", f"{LINE}@v1.1"),
        (f"{LINE}@v1.1", f"{LINE}@v1.2"),
        (f"{LINE}@v1.2", f"{LINE}@v1.3"),
    ]
    assert versions(other)["v1.0"] == before["v1.0"]
    assert other.state(LINE).active == "v1.0"
    assert bring(remote, other.root, LINE, rebase=True).versions == ()
    assert fsck(other, Level.FULL).sound


def test_a_registry_of_another_tool_is_left_alone(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """A directory that was never adopted is not taken over by a restore."""
    backup(line, remote)
    other = create(tmp_path / "elsewhere")
    (other.root / LINE).mkdir()
    (other.root / LINE / "model_registry.json").write_text('{"versions": {}}')
    with pytest.raises(ConflictError, match="did not make"):
        bring(remote, other.root)


# --- hostile or damaged destinations


def test_a_damaged_frame_is_an_error_and_no_version(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """What is wrong at the destination never gets a name here."""
    backup(line, remote)
    manifest = line.manifest(LINE, resolve(line, f"{LINE}@v1.2").entry)
    digest = next(s.blob for f in manifest.files for s in f.spans if s.tensors)
    damage(Path(remote.shown) / frame_key(digest))
    with pytest.raises(IntegrityError):
        bring(remote, tmp_path / "copy", f"{LINE}@v1.2")
    copy = Store(tmp_path / "copy")
    assert copy.models() == []
    assert digest not in copy.blobs


@pytest.mark.parametrize(
    "change",
    [
        {"files": [{"path": "../evil", "size": 0, "blake3": "0" * 64, "spans": []}]},
        {"files": [{"path": ".mstore/format.json", "size": 0, "blake3": "0" * 64, "spans": []}]},
        {"files": [{"path": "a/v1.0/../../x", "size": 0, "blake3": "0" * 64, "spans": []}]},
        {"files": [{"path": "README.md", "size": 9, "blake3": "0" * 64, "spans": []}]},
        {"models": {"../evil": {"seq": 1, "head": "0" * 64, "versions": {}}}},
        {"models": {"m": {"seq": -1, "head": "0" * 64, "versions": {}}}},
        {"models": {"m": {"seq": 1, "head": "0" * 64, "versions": {"x/y": "0" * 64}}}},
        {"models": []},
        {"missing": [{"blob": "no", "what": "", "versions": []}]},
        {"sizes": {"sent": "many"}},
        {"name": "another"},
        {"schema": "mstore/backup/2"},
        {"schema": None},
    ],
)
def test_a_hostile_document_writes_nothing(
    line: Store, remote: DirectoryRemote, tmp_path: Path, change: dict[str, object]
) -> None:
    """Paths, names and numbers of a document are checked before they are used."""
    done = backup(line, remote).backup
    value = {**json.loads(encode(done)), **change}
    del value["checksum"]
    remote.put(key_of(done.name), sealed(value))
    with pytest.raises(StoreError):
        bring(remote, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_registry_that_is_not_the_documents_is_refused(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """The state of a model must have the head that the document says."""
    done = backup(line, remote).backup
    models = {**done.models, LINE: replace(done.models[LINE], head=done.models[OTHER].head)}
    wrong = replace(done, models=models, name=new_name(done.moment))
    remote.put(key_of(wrong.name), encode(wrong))
    with pytest.raises(IntegrityError, match="registry of"):
        bring(remote, tmp_path / "copy", at=wrong.name)


# --- interrupted


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_restore_that_fails_at_any_request_is_completed_by_another(
    line: Store, remote: DirectoryRemote, tmp_path: Path, stride: int
) -> None:
    """Whatever request the network ends at, a second restore makes the same store."""
    backup(line, remote)
    for number, step in enumerate(range(1, 500, stride)):
        place = tmp_path / f"copy{step}"
        try:
            bring(WatchedRemote(remote, failing_at(step)), place)
        except RemoteError:
            copy = bring(remote, place).store
        else:
            break
        if number % 4 == 0:
            assert fsck(copy).findings == ()
            assert same_content(line, copy, tmp_path)
    else:
        pytest.fail("it never came through")


@pytest.mark.parametrize("stride", [47, pytest.param(5, marks=pytest.mark.slow)])
def test_a_restore_that_dies_at_any_step_is_completed_by_another(
    store: Store, remote: DirectoryRemote, tmp_path: Path, stride: int
) -> None:
    """Killed at each change of the disk, a second restore makes the same store."""
    commit(store, write_model(tmp_path / "run"), LINE, CommitOptions(message="one"))
    commit(store, write_model(tmp_path / "run2", step=1e-3), LINE, CommitOptions(message="two"))
    backup(store, remote)
    for step in range(300, 2000, stride):  # before that, directories of blobs/ are made
        place = tmp_path / f"copy{step}"
        if not crashes(partial(bring, remote, place), step):
            break
        if place.is_dir() and (place / ".mstore").is_dir():
            problems = fsck(Store(place)).problems  # directories are there before their registry
            assert {one.kind for one in problems} <= {"registry"}
        copy = bring(remote, place).store
        assert copy.state(LINE).document == store.state(LINE).document
        assert (copy.root / LINE / "journal.jsonl").is_file()
        gc(copy, plan_gc(copy))
        assert [f for f in fsck(copy, Level.FULL).findings if f.serious] == []
    assert same_content(store, copy, tmp_path)
