"""A backup holds all that the store had at one moment, and moves only what is new."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from modelstore.errors import RemoteError, StoreError
from modelstore.names import ModelName
from modelstore.ops.backup import BackedUp, Verify, backup, plan_backup
from modelstore.ops.backup_check import check
from modelstore.ops.backup_document import decode, encode, find, names_at, read_backup
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.elsewhere import key_of
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.pins import held
from modelstore.ops.repack import repack
from modelstore.ops.repack_ways import Effort
from modelstore.ops.resolve import Resolved, resolve
from modelstore.ops.restore import plan_restore, restore
from modelstore.ops.rm import plan_rm, rm
from modelstore.remotes.directory import DirectoryRemote, create_directory
from modelstore.remotes.keyfile import Passphrase
from modelstore.remotes.sealed import create_sealed, open_sealed
from modelstore.store import Store, create
from tests.builders import Values, safetensors_bytes
from tests.crashes import crashes
from tests.models import files_of, write_model
from tests.ops.watched import WatchedRemote, failing_at, keys_of

LINE = ModelName("llama_1b")
OTHER = ModelName("other")


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A model with three versions, each made from the one before; v1.0 is ACTIVE."""
    for number in range(3):
        source = write_model(tmp_path / f"run{number}", step=number * 1e-3)
        commit(store, source, LINE, CommitOptions(message=f"number {number}"))
    return store


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[DirectoryRemote]:
    """An empty directory as a remote."""
    found = create_directory(tmp_path / "backups")
    yield found
    found.close()


def all_files(store: Store, directory: Path) -> dict[str, bytes]:
    """Return every file of every version, by full ref and path."""
    found: dict[str, bytes] = {}
    for model in store.models():
        for entry in store.state(model).entries():
            if entry.id is not None:
                place = directory / model / str(entry.version)
                checkout(store, Resolved(model, entry), output=place)
                found |= {f"{model}@{entry.version}/{p}": d for p, d in files_of(place).items()}
    return found


def restored(remote: DirectoryRemote, place: Path, at: str = "") -> Store:
    """Return everything of a backup as a new store."""
    return restore(remote, plan_restore(remote, place, at=at)).store


def same_content(one: Store, other: Store, tmp_path: Path) -> bool:
    """Tell whether two stores have the same registries and the same versions, byte for byte."""
    if one.models() != other.models():
        return False
    if any(one.state(m).document != other.state(m).document for m in one.models()):
        return False
    places = tmp_path / os.urandom(4).hex(), tmp_path / os.urandom(4).hex()
    return all_files(one, places[0]) == all_files(other, places[1])


def back_up_to(store: Store, place: Path) -> BackedUp:
    """Back up to a directory, which is made."""
    return backup(store, create_directory(place))


def damage(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


# --- what it holds


def test_a_backup_restores_to_the_same_store(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Registries, journals, what people wrote, and every file come back byte for byte."""
    (line.root / "README.md").write_text("our models")
    (line.root / LINE / "v1.1" / "README.md").write_text("edited by hand")
    commit(line, write_model(tmp_path / "o", seed=9), OTHER, CommitOptions(message="other"))
    done = backup(line, remote)
    assert done.backup.complete
    assert check(remote).sound
    copy = restored(remote, tmp_path / "copy")
    assert same_content(line, copy, tmp_path)
    before, after = files_of(line.root), files_of(copy.root)
    small = {path for path in before if not path.startswith(".mstore")}
    assert {path: after.get(path) for path in small} == {path: before[path] for path in small}
    assert copy.config() == line.config()
    assert fsck(copy, Level.FULL).sound


def test_a_backup_moves_only_what_is_new(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """After one more fine-tune: its frames, its manifest and small files, registry, journal."""
    backup(line, remote)
    before, frames = keys_of(remote), set(line.blobs.iter_digests())
    commit(line, write_model(tmp_path / "new", step=9e-3), LINE, CommitOptions(message="new"))
    new = set(line.blobs.iter_digests()) - frames
    watched = WatchedRemote(remote)
    done = backup(line, watched)
    small = {
        digest
        for path in (f"{LINE}/model_registry.json", f"{LINE}/journal.jsonl")
        for digest, _ in done.backup.file(path).spans  # type: ignore[union-attr]
    } | {
        digest
        for name in ("README.md", "model_info.json")
        for digest, _ in done.backup.file(f"{LINE}/v1.3/{name}").spans  # type: ignore[union-attr]
    }
    document = f"backups/{done.backup.name}.json"
    assert set(watched.put_bytes) == {document, *map(key_of, new | small)}
    assert keys_of(remote) == before | watched.put_bytes
    assert done.size == sum(watched.put_bytes.values()) - watched.put_bytes[document]
    assert sum(watched.put_bytes[key_of(d)] for d in new) == sum(
        line.blobs.path(d).stat().st_size for d in new
    )


def test_nothing_new_is_one_listing(line: Store, remote: DirectoryRemote) -> None:
    """A backup of what is there already lists frames once, and puts its document alone."""
    backup(line, remote)
    watched = WatchedRemote(remote)
    done = backup(line, watched)
    assert (done.frames, done.size) == (0, 0)
    assert [key for name, key in watched.calls if name == "list"] == ["sweeps", "blobs"]
    assert list(watched.put_bytes) == [f"backups/{done.backup.name}.json"]
    assert len(watched.calls) == 4


def test_a_thousand_frames_that_are_there_cost_no_request_each(
    store: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """No frame costs a request of its own."""
    random = np.random.default_rng(3)
    tensors = {
        f"t{n}": Values("F32", (4,), random.normal(size=4).astype(np.float32).tobytes())
        for n in range(1000)
    }
    path = tmp_path / "many" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(safetensors_bytes(tensors))
    commit(store, path.parent, LINE, CommitOptions(message="many"))
    assert backup(store, remote).frames > 1000
    watched = WatchedRemote(remote)
    assert backup(store, watched).frames == 0
    assert len(watched.calls) == 4


def test_planning_writes_nothing(line: Store, remote: DirectoryRemote) -> None:
    """A dry run tells what would move, and leaves both sides as they are."""
    before, there = files_of(line.root), keys_of(remote)
    plan = plan_backup(line, remote)
    assert plan.frames == len(set(line.blobs.iter_digests()))
    assert plan.missing == ()
    assert (files_of(line.root), keys_of(remote)) == (before, there)
    backup(line, remote)
    assert plan_backup(line, remote).frames == 0


def test_no_option_of_a_remote_is_in_a_backup(line: Store, remote: DirectoryRemote) -> None:
    """Settings come along, but nothing that could be secret does."""
    path = line.meta / "config.json"
    config = {
        "default_model": "llama_1b",
        "token": "hush",
        "remotes": {"origin": {"url": "/mnt/x", "sealed": False, "options": {"key": "hush"}}},
    }
    path.write_text(json.dumps(config))
    file = backup(line, remote).backup.file(".mstore/config.json")
    assert file is not None
    for digest, _ in file.spans:
        assert b"hush" not in remote.get(key_of(digest))


@pytest.mark.parametrize("verify", list(Verify))
def test_what_was_sent_can_be_read_back(
    line: Store, remote: DirectoryRemote, verify: Verify
) -> None:
    """The bytes that are read back are none, some, or all."""
    done = backup(line, remote, verify=verify)
    everything = sum(size for key, size in keys_of(remote).items() if key.startswith("blobs/"))
    assert {Verify.NEW: 0, Verify.ALL: everything}.get(verify, done.read) == done.read
    assert verify is not Verify.SAMPLE or 0 < done.read < everything


def test_reading_back_finds_what_a_remote_damaged(line: Store, remote: DirectoryRemote) -> None:
    """Where all is read back, a damaged frame keeps the backup from coming into being."""
    backup(line, remote)
    digest = next(iter(line.blobs.iter_digests()))
    damage(Path(remote.shown) / key_of(digest))
    with pytest.raises(StoreError, match="does not hold what was sent"):
        backup(line, remote, verify=Verify.ALL)
    assert len(names_at(remote)) == 1


def test_a_document_is_read_as_it_was_written(line: Store, remote: DirectoryRemote) -> None:
    """Encoding and decoding a backup gives the same."""
    done = backup(line, remote).backup
    assert decode(encode(done), done.name) == done
    assert read_backup(remote, done.name) == done
    assert find(remote) == done


# --- damage


def test_a_damaged_frame_is_named_and_never_sent(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Everything else is saved; the versions that need the frame are named."""
    first = line.manifest(LINE, resolve(line, "v1.0").entry).blobs()
    second = line.manifest(LINE, resolve(line, "v1.1").entry).blobs()
    third = line.manifest(LINE, resolve(line, "v1.2").entry).blobs()
    lost = max(third - second - first, key=lambda d: line.blobs.header(d).stored_size)
    damage(line.blobs.path(lost))
    done = backup(line, remote)
    assert [(one.blob, one.versions) for one in done.backup.missing] == [(lost, (f"{LINE}@v1.2",))]
    assert key_of(lost) not in keys_of(remote)
    assert check(remote).sound
    assert check(remote).incomplete == (done.backup.name,)
    back = restore(remote, plan_restore(remote, tmp_path / "copy"))
    assert back.lost == (f"{LINE}@v1.2",)
    assert {one.now for one in back.versions} == {f"{LINE}@v1.0", f"{LINE}@v1.1"}


def test_a_lost_base_takes_what_is_built_on_it_along(line: Store, remote: DirectoryRemote) -> None:
    """What cannot be decoded without a lost frame is missing, too."""
    built = next(d for d in line.blobs.iter_digests() if line.blobs.header(d).base)
    base = line.blobs.header(built).base
    assert base is not None
    line.blobs.path(base).unlink()
    missing = {one.blob for one in backup(line, remote).backup.missing}
    assert {base, built} <= missing
    assert not {key_of(base), key_of(built)} & keys_of(remote).keys()


def test_what_is_safe_there_is_not_missing(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """A frame that the store loses after a backup has it is in the next backup all the same."""
    backup(line, remote)
    for digest in list(line.blobs.iter_digests())[:3]:
        line.blobs.path(digest).unlink()
    assert backup(line, remote).backup.complete
    assert fsck(restored(remote, tmp_path / "copy"), Level.FULL).sound


# --- while others are at work


def test_a_backup_beside_commits_and_gc_is_a_state_that_existed(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Every backup restores, to registries that were there at some moment."""
    sources = [write_model(tmp_path / f"more{n}", step=n * 2e-3) for n in range(4, 9)]
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for source in sources:
                made = commit(line, source, LINE, CommitOptions(message="more"))
                ref = f"{LINE}@{made.version}"
                if int(ref[-1]) % 2:
                    rm(line, plan_rm(line, [resolve(line, ref)], force=True))
                gc(line, plan_gc(line, purge_now=True))
        except BaseException as error:
            failures.append(error)
        finally:
            stop.set()

    worker = threading.Thread(target=work)
    worker.start()
    made: list[BackedUp] = []
    while not stop.is_set():
        made.append(backup(line, remote))
    worker.join()
    assert failures == []
    assert check(remote).sound
    heads = {row["prev"] for row in line.registry(LINE).journal()} | {line.state(LINE).head}
    for number, one in enumerate((made[0], made[len(made) // 2], made[-1])):
        assert one.backup.models[LINE].head in heads
        copy = restored(remote, tmp_path / f"copy{number}", one.backup.name)
        assert fsck(copy, Level.FULL).findings == ()
        assert copy.state(LINE).head == one.backup.models[LINE].head


def test_gc_leaves_alone_what_a_backup_is_reading(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Versions that are removed and collected while frames are sent are in the backup, whole."""
    began: list[str] = []

    def remove(_: int, name: str, key: str) -> None:
        if name == "put_if_absent" and not began:
            began.append(key)
            rm(line, plan_rm(line, [resolve(line, "v1.1"), resolve(line, "v1.2")], force=True))
            gc(line, plan_gc(line, purge_now=True))

    done = backup(line, WatchedRemote(remote, remove))
    assert began
    assert done.backup.complete
    assert held(line) == set()
    copy = restored(remote, tmp_path / "copy")
    assert [str(v) for v in copy.state(LINE).versions()] == ["v1.0", "v1.1", "v1.2"]
    assert fsck(copy, Level.FULL).sound
    collected = gc(line, plan_gc(line, purge_now=True))
    assert collected.frames > 0


def test_a_repack_beside_a_backup_does_no_harm(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Frames that are encoded anew while others are sent arrive, fit, and decode."""
    began: list[str] = []

    def encode_anew(_: int, name: str, key: str) -> None:
        if name == "put_if_absent" and not began:
            began.append(key)
            repack(line, effort=Effort.NORMAL)

    assert backup(line, WatchedRemote(remote, encode_anew)).backup.complete
    assert fsck(restored(remote, tmp_path / "copy"), Level.FULL).sound


# --- interrupted


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_backup_that_fails_at_any_request_is_none_and_the_next_is_whole(
    store: Store, tmp_path: Path, stride: int
) -> None:
    """Whatever request the network ends at: no backup, or a whole one; and then another."""
    commit(store, write_model(tmp_path / "run"), LINE, CommitOptions(message="one"))
    commit(store, write_model(tmp_path / "run2", step=1e-3), LINE, CommitOptions(message="two"))
    for step in range(1, 500, stride):
        with_failure = create_directory(tmp_path / f"to{step}")
        try:
            backup(store, WatchedRemote(with_failure, failing_at(step)))
        except RemoteError:
            assert not check(with_failure).problems
            backup(store, with_failure)
            found = check(with_failure)
            assert found.sound
            assert 1 <= found.backups <= 2
        else:
            break
    else:
        pytest.fail("it never came through")
    assert step > 10


@pytest.mark.parametrize("stride", [23, pytest.param(3, marks=pytest.mark.slow)])
def test_a_backup_that_dies_at_any_step_is_none_and_the_next_is_whole(
    store: Store, tmp_path: Path, stride: int
) -> None:
    """Killed at each change of either disk, both sides are sound, and the next backup is whole."""
    commit(store, write_model(tmp_path / "run"), LINE, CommitOptions(message="one"))
    for step in range(1, 1000, stride):
        place = tmp_path / f"to{step}"
        if not crashes(partial(back_up_to, store, place), step):
            break
        remote = create_directory(place)
        assert not check(remote).problems
        backup(store, remote)
        assert check(remote).sound
        assert fsck(store).sound
        remote.close()
    gc(store, plan_gc(store))
    assert held(store) == set()
    assert [p.name for p in (store.meta / "pins").glob("*") if p.suffix == ".json"] == []


# --- sealed and append-only


def test_a_sealed_destination_shows_nothing_and_restores(line: Store, tmp_path: Path) -> None:
    """Backups are incremental there, too, and come back with the key alone."""
    inner = create_directory(tmp_path / "sealed")
    remote = create_sealed(inner, Passphrase("long enough a phrase"), cost=1 << 15)
    backup(line, remote)
    count = len(keys_of(inner))
    assert backup(line, remote).frames == 0
    assert len(keys_of(inner)) == count + 1
    assert check(remote).sound
    names = " ".join(keys_of(inner))
    assert "blobs" not in names
    assert "backups" not in names
    again = open_sealed(inner, Passphrase("long enough a phrase"))
    copy = restore(again, plan_restore(again, tmp_path / "copy")).store
    assert same_content(line, copy, tmp_path)


def test_a_destination_that_refuses_deletes_takes_backups(
    line: Store, remote: DirectoryRemote, tmp_path: Path
) -> None:
    """Backing up needs no right to delete."""

    def refuse(_: int, name: str, key: str) -> None:
        assert name != "delete", key

    watched = WatchedRemote(remote, refuse)
    backup(line, watched)
    commit(line, write_model(tmp_path / "new", step=9e-3), LINE, CommitOptions(message="new"))
    backup(line, watched)
    assert check(remote).sound
    assert create(line.root).models() == line.models()


def test_an_object_store_is_a_destination(line: Store, tmp_path: Path) -> None:
    """Backups to a remote without directories are the same."""
    pytest.importorskip("obstore")
    from modelstore.remotes.cloud import memory_remote

    remote = memory_remote()
    backup(line, remote)
    assert backup(line, remote, verify=Verify.ALL).frames == 0
    assert check(remote).sound
    assert same_content(line, restore(remote, plan_restore(remote, tmp_path / "c")).store, tmp_path)
