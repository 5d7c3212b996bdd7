"""Gc takes what no version needs, and never anything else: not beside commits, and not in doubt."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from modelstore import disk
from modelstore.blobs import BytesSource
from modelstore.blobs.trash import KEPT
from modelstore.errors import (
    ConflictError,
    DiskFullError,
    IntegrityError,
    LockTimeoutError,
    StoreError,
)
from modelstore.hashing import Bytes, Digest, digest_of
from modelstore.locks import gc_lock, locked
from modelstore.manifest import Manifest, encode
from modelstore.names import ModelName
from modelstore.numeric import dtype_named
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.place import RUNS, STARTED_FROM
from modelstore.ops.pointer import set_active, set_alias
from modelstore.ops.publish import Publication
from modelstore.ops.repack import repack
from modelstore.ops.repack_ways import Effort
from modelstore.ops.resolve import Resolved, resolve
from modelstore.ops.retention import Policy
from modelstore.ops.rm import plan_rm, rm
from modelstore.ops.stage import Staged
from modelstore.ops.undelete import resolve_removed, undelete
from modelstore.ops.verify import verify
from modelstore.store import Store, create
from modelstore.syscalls import Syscalls
from tests.crashes import crashes
from tests.models import files_of, write_model

LINE = ModelName("llama_1b")
OTHER = ModelName("other")


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A model with three versions, each made from the one before; v1.0 is ACTIVE."""
    for number in range(3):
        source = write_model(tmp_path / f"run{number}", step=number * 1e-3)
        commit(store, source, LINE, CommitOptions(message=f"number {number}"))
    return store


def remove(store: Store, *refs: str) -> None:
    """Remove versions, whatever is in their directories."""
    rm(store, plan_rm(store, [resolve(store, ref) for ref in refs], force=True))


def orphan(store: Store, data: bytes = b"needed by nobody" * 9) -> Digest:
    """Publish a frame that no version needs."""
    with store.blobs.transaction() as transaction:
        digest = transaction.add_bytes(data)
        transaction.publish()
    return digest


def all_sound(store: Store) -> bool:
    """Tell whether every version of every model can be read, whole."""
    found = [Resolved(m, e) for m in store.models() for e in store.state(m).entries()]
    return all(verify(store, one).sound for one in found)


def aged(store: Store, seconds: int) -> None:
    """Let everything in the trash have been taken so much earlier."""
    for item in store.blobs.trash().content():
        then = datetime.now(timezone.utc) - timedelta(seconds=item.age + seconds)
        rest = item.path.name.partition(".")[2]
        item.path.rename(item.path.with_name(f"{then:%Y%m%dT%H%M%SZ}.{rest}"))


# --- what goes


def test_only_what_no_version_needs_goes(line: Store) -> None:
    """A frame of nobody is in the trash afterwards, and all versions are sound."""
    before = set(line.blobs.iter_digests())
    digest = orphan(line)
    plan = plan_gc(line)
    assert set(plan.frames) == {digest}
    done = gc(line, plan)
    assert (done.frames, done.size) == (1, sum(plan.frames.values()))
    assert set(line.blobs.iter_digests()) == before
    assert line.blobs.trash().find(digest) is not None
    assert all_sound(line)
    assert gc(line, plan_gc(line)).frames == 0


def test_planning_changes_nothing(line: Store) -> None:
    """A dry run leaves every file as it is."""
    orphan(line)
    remove(line, "v1.1")
    before = files_of(line.root)
    plan_gc(line, purge_now=True)
    assert files_of(line.root) == before


def test_a_base_stays_as_long_as_something_is_built_on_it(line: Store) -> None:
    """Removing a version takes the frames that are its own, not those that others need (G04)."""
    manifest = line.manifest(LINE, resolve(line, "v1.1").entry)
    bases = {line.blobs.header(digest).base for digest in line.blobs.iter_digests()} - {None}
    assert bases & manifest.blobs()
    remove(line, "v1.1")
    gc(line, plan_gc(line, purge_now=True))
    assert bases & manifest.blobs() <= set(line.blobs.iter_digests())
    assert all_sound(line)


def test_the_trash_is_purged_after_its_time(line: Store) -> None:
    """What was taken 14 days ago goes for good, what was taken since stays."""
    digest = orphan(line)
    gc(line, plan_gc(line))
    aged(line, KEPT - 60)
    assert gc(line, plan_gc(line)).purged == 0
    aged(line, 120)
    done = gc(line, plan_gc(line))
    assert done.purged == 1
    assert done.freed > 0
    assert line.blobs.trash().find(digest) is None
    assert done.waiting == 0


def test_what_is_in_the_trash_and_needed_comes_back(line: Store) -> None:
    """However it got there, no gc purges what a version needs."""
    (digest, *_) = sorted(line.manifest(LINE, resolve(line, "v1.1").entry).blobs())
    with line.lock():
        line.blobs.trash().put(digest)
    aged(line, 2 * KEPT)
    gc(line, plan_gc(line, purge_now=True))
    assert digest in line.blobs
    assert all_sound(line)


def test_what_is_not_ours_is_left_alone_and_said(line: Store) -> None:
    """Files of other names among the frames and in the trash stay."""
    strange = [line.meta / "blobs/ab/notes.txt", line.meta / "blobs/README", line.meta / "trash/x"]
    for path in strange:
        path.write_bytes(b"mine")
    plan = plan_gc(line, purge_now=True)
    assert set(plan.unknown) == set(strange)
    gc(line, plan)
    assert all(path.exists() for path in strange)


def test_leftovers_of_killed_processes_go(line: Store) -> None:
    """Half-written files and directories, and the directory of a removal that was cut short."""
    dead = 2**22 + 7  # more than any process of Linux
    left = [
        line.root / f"{LINE}/.model_registry.json.{dead}.0123abcd.tmp",
        line.meta / f"refs/{LINE}/.0000000009.json.{dead}.0123abcd.tmp",
        line.meta / f"checkouts/.a.json.{dead}.0123abcd.tmp",
        line.meta / f".config.json.{dead}.0123abcd.tmp",
    ]
    for path in left:
        path.write_bytes(b"half")
    half = line.root / f"{LINE}/.v1.3.0123abcd.tmp"
    half.mkdir()
    mine = line.meta / f"checkouts/.b.json.{os.getpid()}.0123abcd.tmp"
    mine.write_bytes(b"being written")
    plan = plan_gc(line)
    assert set(plan.debris) == {*left, half}
    assert gc(line, plan).debris == len(left) + 1
    assert not any(path.exists() for path in (*left, half))
    assert mine.exists()


def test_a_version_directory_that_no_registry_lists_keeps_its_blobs(line: Store) -> None:
    """It may be all that is left of a registry that was lost."""
    other = create(line.root.parent / "second")
    for number in range(2):
        commit(other, line.root.parent / f"run{number}", LINE, CommitOptions())
    for directory in (other.meta / "refs" / LINE, other.root / LINE):
        for path in directory.glob("*.json*"):
            path.unlink()
    assert other.models() == []
    assert plan_gc(other).frames == {}


def test_clocks_do_not_matter(line: Store) -> None:
    """Whatever times the files have, nothing that is needed goes (G13)."""
    digest = orphan(line)
    for moment in (0, 2**31 - 1):
        for path in line.root.rglob("*"):
            os.utime(path, (moment, moment))
        assert set(plan_gc(line, purge_now=True).frames) == {digest}
    gc(line, plan_gc(line, purge_now=True))
    assert all_sound(line)


# --- policies


def kept(store: Store, policy: Policy) -> dict[str, tuple[str, ...]]:
    """Return why each version stays."""
    return {str(v.resolved.entry.version): v.reasons for v in plan_gc(store, policy).verdicts}


def test_a_policy_removes_the_rest(line: Store) -> None:
    """What no rule keeps is removed as rm does, its frames go, and undelete brings it back."""
    plan = plan_gc(line, Policy(last=1))
    assert [str(one) for one in plan.dropped] == ["llama_1b@v1.1"]
    done = gc(line, plan)
    assert [str(one) for one in done.versions] == ["llama_1b@v1.1"]
    assert done.frames == len(plan.frames) > 0
    assert [str(version) for version in line.state(LINE).versions()] == ["v1.0", "v1.2"]
    assert all_sound(line)
    undelete(line, resolve_removed(line, "v1.1"))
    assert all_sound(line)


def test_what_is_in_use_stays(line: Store, tmp_path: Path) -> None:
    """ACTIVE, aliases, trainings and local changes hold against any policy (G08)."""
    for number in range(3, 6):
        commit(line, write_model(tmp_path / "run", seed=number), LINE, CommitOptions())
    set_alias(line, "prod", resolve(line, "v1.1"))
    run = line.meta / RUNS / "one"
    run.mkdir()
    (run / STARTED_FROM).write_text("llama_1b@v1.2\n")
    checkout(line, resolve(line, "v1.3"))
    checkout(line, resolve(line, "v1.4"))
    changed = line.version_dir(LINE, "v1.3") / "config.json"
    before = changed.read_bytes()
    changed.write_bytes(b"mine")
    nothing = Policy(last=0)
    assert kept(line, nothing) == {
        "v1.0": ("ACTIVE",),
        "v1.1": ("alias prod",),
        "v1.2": ("training",),
        "v1.3": ("local changes",),
        "v1.4": (),
        "v1.5": (),
    }
    gc(line, plan_gc(line, nothing, purge_now=True))
    assert [str(version) for version in line.state(LINE).versions()] == [
        f"v1.{n}" for n in range(4)
    ]
    assert changed.read_bytes() == b"mine"
    changed.write_bytes(before)
    assert all_sound(line)


def test_what_became_active_after_the_plan_stays(line: Store) -> None:
    """The policy is asked again when the gc runs."""
    plan = plan_gc(line, Policy(last=1))
    set_active(line, resolve(line, "v1.1"))
    assert gc(line, plan).versions == ()
    assert all_sound(line)


def test_only_what_was_shown_goes(line: Store, tmp_path: Path) -> None:
    """A commit after the plan pushes no further version out."""
    plan = plan_gc(line, Policy(last=1))
    commit(line, write_model(tmp_path / "late", seed=8), LINE, CommitOptions())
    gc(line, plan)
    assert [str(version) for version in line.state(LINE).versions()] == ["v1.0", "v1.2", "v1.3"]


def test_a_policy_is_for_one_model_if_that_is_said(line: Store, tmp_path: Path) -> None:
    """Other models keep all of their versions."""
    for number in range(2):
        commit(line, tmp_path / f"run{number}", OTHER, CommitOptions())
    set_active(line, resolve(line, "other@v1.1"))
    plan = plan_gc(line, Policy(last=1), model=OTHER)
    assert [str(one) for one in plan.dropped] == ["other@v1.0"]


# --- what holds


def _frame(store: Store) -> Path:
    """Return a frame that v1.1 needs and v1.0 does not."""
    first, second = (store.manifest(LINE, resolve(store, ref).entry) for ref in ("v1.0", "v1.1"))
    return store.blobs.path(min(second.blobs() - first.blobs()))


def _damage_frame(store: Store) -> None:
    disk.replace(_frame(store), b"damaged")


def _lose_frame(store: Store) -> None:
    disk.remove(_frame(store))


def _damage_manifest(store: Store) -> None:
    entry = resolve(store, "v1.1").entry
    assert entry.id is not None
    disk.replace(store.blobs.path(entry.id), b"damaged")
    disk.replace(store.version_dir(LINE, "v1.1") / "manifest.json", b"{}")


def _lose_manifest(store: Store) -> None:
    entry = resolve(store, "v1.1").entry
    assert entry.id is not None
    disk.remove(store.blobs.path(entry.id))
    disk.remove(store.version_dir(LINE, "v1.1") / "manifest.json")


def _damage_record(store: Store) -> None:
    disk.remove(store.root / LINE / "model_registry.json")
    disk.remove(store.root / LINE / "journal.jsonl")
    disk.replace(store.meta / "refs" / LINE / "0000000002.json", b"{}")


def _lose_record(store: Store) -> None:
    disk.remove(store.root / LINE / "model_registry.json")
    disk.remove(store.root / LINE / "journal.jsonl")
    disk.remove(store.meta / "refs" / LINE / "0000000002.json")


def _lose_all_records(store: Store) -> None:
    disk.remove_tree(store.meta / "refs")


def _file_for_directory(store: Store) -> None:
    disk.remove_tree(store.meta / "refs" / LINE)
    disk.replace(store.meta / "refs" / LINE, b"")
    disk.remove(store.root / LINE / "model_registry.json")


def _strange_model(store: Store) -> None:
    disk.make_dir(store.meta / "refs" / "not a model")


@pytest.mark.parametrize(
    "harm",
    [
        _damage_frame,
        _lose_frame,
        _damage_manifest,
        _lose_manifest,
        _damage_record,
        _lose_record,
        _lose_all_records,
        _strange_model,
        _file_for_directory,
    ],
)
def test_where_anything_cannot_be_read_nothing_goes(
    line: Store, harm: Callable[[Store], None]
) -> None:
    """Damaged or missing frames, manifests, records and directories stop it (G03)."""
    digest = orphan(line)
    plan = plan_gc(line)
    harm(line)
    before = files_of(line.meta / "blobs")
    with pytest.raises(StoreError):
        plan_gc(Store(line.root))
    with pytest.raises(StoreError):
        gc(Store(line.root), plan)
    assert files_of(line.meta / "blobs") == before
    assert digest in line.blobs


@pytest.mark.parametrize("where", ["refs", f"refs/{LINE}", "blobs/00", "runs", "trash"])
def test_where_a_directory_may_not_be_read_nothing_goes(line: Store, where: str) -> None:
    """A directory without permission looks empty to some calls, and must not to these."""
    orphan(line)
    before = files_of(line.meta / "blobs")
    (line.meta / where).chmod(0)
    try:
        if os.access(line.meta / where, os.R_OK):
            pytest.skip("root may read everything")
        with pytest.raises(StoreError):
            plan_gc(line, Policy(last=1))
    finally:
        (line.meta / where).chmod(0o755)
    assert files_of(line.meta / "blobs") == before


def test_a_lost_version_that_is_given_up_no_longer_stops_it(line: Store) -> None:
    """The hint is a way out: removing the version."""
    _lose_frame(line)
    with pytest.raises(IntegrityError, match="cannot be found") as caught:
        plan_gc(line)
    assert "mstore rm llama_1b@v1." in caught.value.hint
    remove(line, "v1.1", "v1.2")
    gc(line, plan_gc(line))
    assert verify(line, resolve(line, "v1.0")).sound


# --- beside others


def test_a_commit_that_uses_an_orphan_again_keeps_it(line: Store, tmp_path: Path) -> None:
    """What is published between mark and sweep stays (G01)."""
    remove(line, "v1.2")
    plan = plan_gc(line)
    assert plan.frames
    commit(line, tmp_path / "run2", LINE, CommitOptions(message="once more"))
    gc(line, plan)
    assert all_sound(line)


def test_a_commit_in_another_model_counts(line: Store, tmp_path: Path) -> None:
    """A model that began after the mark, and one that was there, keep what they use (G01)."""
    commit(line, write_model(tmp_path / "far", seed=5), OTHER, CommitOptions())
    remove(line, "llama_1b@v1.1", "llama_1b@v1.2")
    plan = plan_gc(line)
    assert plan.frames
    commit(line, tmp_path / "run1", OTHER, CommitOptions())
    commit(line, tmp_path / "run2", ModelName("new"), CommitOptions())
    gc(line, plan)
    assert all_sound(line)


def test_a_gc_in_the_middle_of_a_commit_costs_it_nothing(line: Store, tmp_path: Path) -> None:
    """What a commit found in the store, and a gc took away before it was published, comes back (G01)."""
    remove(line, "v1.2")
    taken = []

    def collect(stage: str, done: int, total: int) -> None:
        if stage == "store" and done == total:
            taken.append(gc(line, plan_gc(line)).frames)

    commit(line, tmp_path / "run2", LINE, CommitOptions(message="again"), collect)
    assert sum(taken) > 0
    assert all_sound(line)


def test_a_purge_in_the_middle_of_a_commit_makes_it_start_again(
    line: Store, tmp_path: Path
) -> None:
    """What is gone for good cannot come back: the commit changes nothing, and works the next time."""
    remove(line, "v1.2")

    def collect(stage: str, done: int, total: int) -> None:
        if stage == "store" and done == total:
            gc(line, plan_gc(line, purge_now=True))

    with pytest.raises(ConflictError) as caught:
        commit(line, tmp_path / "run2", LINE, CommitOptions(message="again"), collect)
    assert caught.value.hint == "run the command again"
    assert len(line.state(LINE).versions()) == 2
    commit(line, tmp_path / "run2", LINE, CommitOptions(message="again"))
    assert all_sound(line)


def publication(store: Store, manifest: Manifest, digest: Digest) -> Publication:
    """Return the last step of a commit whose blobs are published."""
    return Publication(
        model=OTHER,
        manifest=manifest,
        id=digest,
        staged=Staged(0, 0, frozenset(manifest.blobs())),
        parents=(),
        version="",
        in_place=False,
        stale={},
        major=False,
        activate=False,
        message="",
        note="",
        description="",
        author="",
        extra={},
        op="commit",
    )


@pytest.mark.parametrize("purge_now", [False, True])
def test_new_blobs_that_no_registry_names_yet(
    store: Store, tmp_path: Path, purge_now: bool
) -> None:
    """A gc between blobs and record of a commit takes those, and the commit takes them back (G02)."""
    source = create(tmp_path / "source")
    done = commit(source, write_model(tmp_path / "run"), LINE, CommitOptions())
    manifest = source.manifest(LINE, resolve(source, done.version).entry)
    with store.blobs.transaction() as transaction:
        for digest in manifest.blobs():
            transaction.add_bytes(source.blobs.read(digest))
        name = transaction.add_bytes(encode(manifest))
        transaction.publish()
    taken = gc(store, plan_gc(store, purge_now=purge_now)).frames
    assert taken == len(manifest.blobs()) + 1
    last = publication(store, manifest, name)
    if purge_now:
        with pytest.raises(ConflictError):
            last.publish(store)
        assert store.models() == []
        return
    last.publish(store)
    assert all_sound(store)


def test_a_base_that_was_taken_meanwhile_comes_back(line: Store) -> None:
    """A transaction whose base a gc takes away publishes both (G01)."""
    values = np.random.default_rng(3).normal(size=4096).astype(np.float32)
    base, near = values.tobytes(), (values + np.float32(1e-6)).tobytes()
    f32 = dtype_named("F32")
    with line.blobs.transaction() as transaction:
        transaction.add(digest_of(base), BytesSource(base), dtype=f32)
        transaction.publish()
    with line.blobs.transaction() as transaction:
        added = transaction.add(
            digest_of(near), BytesSource(near), dtype=f32, bases=[digest_of(base)]
        )
        assert added.built_on == (digest_of(base),)
        gc(line, plan_gc(line))
        assert digest_of(base) not in line.blobs
        transaction.publish()
    assert line.blobs.is_sound(digest_of(near))
    assert line.blobs.read(digest_of(near)) == near


def test_a_second_gc_is_refused(line: Store) -> None:
    """Only one goes over the frames at a time, and a repack counts, too (G06)."""
    line.lock_timeout = 0.05
    plan = plan_gc(line)
    with locked(gc_lock(line.meta)):
        thread_errors: list[BaseException] = []

        def attempt() -> None:
            try:
                gc(line, plan)
            except LockTimeoutError as error:
                thread_errors.append(error)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        assert len(thread_errors) == 1
        with pytest.raises(LockTimeoutError):
            repack(line)


def test_a_reader_of_a_version_that_goes_reads_on(line: Store, tmp_path: Path) -> None:
    """A checkout ends well though its version is removed, and collected, in the middle of it (G07)."""
    done: list[str] = []

    def interfere(stage: str, before: int, total: int) -> None:
        if not done:
            done.append(stage)
            remove(line, "v1.2")
            assert gc(line, plan_gc(line)).frames

    out = tmp_path / "out"
    checkout(line, resolve(line, "v1.2"), output=out, progress=interfere)
    assert done
    assert files_of(out) == files_of(tmp_path / "run2")


def test_an_undelete_between_mark_and_sweep_keeps_everything(line: Store) -> None:
    """What is a version again when the lock is taken stays."""
    remove(line, "v1.2")
    plan = plan_gc(line, purge_now=True)
    assert plan.frames
    undelete(line, resolve_removed(line, "v1.2"))
    gc(line, plan)
    assert all_sound(line)


def test_a_frame_that_was_replaced_after_the_mark_is_looked_at_again(line: Store) -> None:
    """What a live frame is built on now counts, not what it was built on when it was marked."""
    plan = plan_gc(line)
    remove(line, "v1.1")
    repack(line, effort=Effort.MAX)
    gc(line, plan)
    assert all_sound(line)


def test_a_full_disk_is_no_obstacle(line: Store) -> None:
    """Where nothing can be written, and no directory grows, what is purged at once still goes."""
    remove(line, "v1.2")
    frames = plan_gc(line).frames
    assert frames
    usual, disk.calls = disk.calls, _Full()
    try:
        with pytest.raises(DiskFullError):
            gc(line, plan_gc(line))
        done = gc(line, plan_gc(line, purge_now=True))
    finally:
        disk.calls = usual
    assert done.freed >= sum(frames.values())
    assert all_sound(line)
    assert gc(line, plan_gc(line)).frames == 0


class _Full(Syscalls):
    """The calls of a disk that has not one free block."""

    def write(self, handle: int, data: Bytes) -> int:
        raise OSError(errno.ENOSPC, "")

    def pwrite(self, handle: int, data: Bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "")

    def open(self, path: Path, flags: int, mode: int = 0o666) -> int:
        if flags & os.O_CREAT and not path.exists():
            raise OSError(errno.ENOSPC, "")
        return super().open(path, flags, mode)

    def mkdir(self, path: Path) -> None:
        raise OSError(errno.ENOSPC, "")

    def link(self, source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "")

    def rename(self, source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "")


# --- crashes


def test_gc_can_die_at_any_step(line: Store, tmp_path: Path) -> None:
    """Nothing that is needed is lost, and the next gc takes the rest (G05)."""
    step, died = 0, True
    while died:
        step += 1
        commit(line, tmp_path / "run2", LINE, CommitOptions(message=str(step), allow_empty=True))
        last = str(line.state(LINE).versions()[-1])
        orphan(line, f"orphan {step}".encode() * 9)
        remove(line, last)
        died = crashes(lambda: gc(line, plan_gc(line, purge_now=True)), step)
        assert all_sound(line)
        gc(line, plan_gc(line, purge_now=True))
        again = plan_gc(line, purge_now=True)
        assert (again.frames, again.purged, again.debris) == ({}, {}, ())
    assert step > 8
    assert all_sound(line)
