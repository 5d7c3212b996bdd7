"""The disk is full, or broken, at every call that a command makes: it fails as it should, or not."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modelstore.errors import DiskFullError, StoreError
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.resolve import resolve
from modelstore.ops.rm import plan_rm, rm
from modelstore.store import create
from tests.faults import ALL, SYNCS, Failing, Recording, Short, exchanged, is_change
from tests.models import write_model
from tests.torture.length import LONG, points
from tests.torture.oracle import broken, facts, violations
from tests.torture.scenes import LINE, scene
from tests.torture.stage import Stage

COMMANDS = (
    *("first commit", "commit", "commit --move", "commit of what is in the trash", "set-active"),
    *("checkout -o", "checkout in place", "gc", "gc --purge-now", "repack", "undelete", "adopt"),
)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
QUICK = 8
"""About so many calls of each command that fail in the short run."""


def takes_room(name: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether a call may find no room; removing never needs any here."""
    return (is_change(name, arguments) and name not in {"unlink", "rmdir"}) or name in SYNCS


def any_call(name: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether a call may find a broken disk."""
    return name in ALL and name != "clone"  # where a clone fails, bytes are copied


@pytest.mark.parametrize("name", COMMANDS)
def test_no_room_at_any_call_is_a_clean_failure(name: str, arena: Path) -> None:
    """It exits with 8 or succeeds, nothing is half done or left over, and a second try works."""
    stage = Stage(scene(name), arena)
    total = stage.count(takes_room)
    for step in points(total, QUICK):
        for number, error in enumerate(NO_ROOM if LONG else [NO_ROOM[step % 2]]):
            faults = Failing(step, error, takes_room, lasting=bool((step + number) % 2))
            _fails_cleanly(stage, faults, DiskFullError)
    print(f"{name}: no room at {len(list(points(total, QUICK)))} of {total} calls")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "adopt"])
def test_a_broken_disk_at_any_call_is_a_clean_failure(name: str, arena: Path) -> None:
    """An error of the device is a StoreError that names the path; what was there is intact.

    Adopt is not among them: it goes on with the other versions, which then have other parents.
    """
    stage = Stage(scene(name), arena)
    total = stage.count(any_call)
    for step in points(total, QUICK):
        for lasting in (False, True) if LONG else (step % 2 == 0,):
            _fails_cleanly(stage, Failing(step, errno.EIO, any_call, lasting=lasting), StoreError)
    print(f"{name}: broken at {len(list(points(total, QUICK)))} of {total} calls")


def _fails_cleanly(stage: Stage, faults: Failing, kind: type[StoreError]) -> None:
    stage.reset()
    told = f"call {faults.step}, lasting: {faults.lasting}"
    complaint = _complaint(stage, faults)
    assert complaint is None or isinstance(complaint, kind), (told, complaint)
    assert faults.failed, told
    assert not stage.wrong_now(), told
    if not faults.lasting and faults.failed[0] not in {"unlink", "rmdir"}:
        assert not _leftovers(stage.world), told
    assert not stage.wrong_after_all(), told


def _complaint(stage: Stage, faults: Failing) -> StoreError | None:
    """Do the step with faults; return how it failed, None if it could do without that call."""
    try:
        with exchanged(faults):
            stage.act()
    except StoreError as error:
        return error
    return None


def _leftovers(world: Path) -> list[Path]:
    """Return half-written files, and what lies in staging."""
    staged = (world / "store/.mstore/tmp").glob("*")
    return [*world.rglob("*.tmp"), *(path for path in staged if path.is_dir())]


@pytest.mark.parametrize("name", ["commit", "checkout -o", "adopt", "set-active"])
def test_short_writes_are_gone_on_with(name: str, arena: Path) -> None:
    """A kernel that takes half of what it is given gets the rest, too."""
    stage = Stage(scene(name), arena)
    stage.reset()
    with exchanged(Short()):
        stage.act()
    assert not violations(stage.world, [stage.after], set(), done=True)


@pytest.mark.parametrize("syncs", [SYNCS])
def test_a_failed_sync_is_not_tried_again(syncs: tuple[str, ...], arena: Path) -> None:
    """What the kernel could not write it forgets: a second fsync would say that all is well."""

    class Once(Failing):
        synced: frozenset[int] = frozenset()

        def at(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
            assert arguments[0] not in self.synced
            if number == self.step:
                self.synced = frozenset({arguments[0]})
            super().at(number, name, arguments)

    class Closing(Once):
        def before(self, name: str, arguments: tuple[Any, ...]) -> None:
            if name == "close":
                self.synced = self.synced - {arguments[0]}
            super().before(name, arguments)

    stage = Stage(scene("commit"), arena)
    before = facts(stage.reset())
    total = stage.count(lambda name, _: name in syncs)
    published = 0
    for step in range(1, total + 1):
        stage.reset()
        faults = Closing(step, errno.EIO, lambda name, _: name in syncs)
        with exchanged(faults), pytest.raises(StoreError, match=r"cannot sync|cannot write"):
            stage.act()
        published += facts(stage.world).get("version m@v1.1") != before.get("version m@v1.1")
        assert not broken(stage.world, directories=False)
    assert published <= 4  # once its record has a name a version exists, synced or not


def test_the_leak_of_a_temporary_file_is_seen(arena: Path) -> None:
    """A file that a failed command leaves behind is found by the test above."""
    stage = Stage(scene("commit"), arena)
    (stage.reset() / "store/m/.x.tmp").write_bytes(b"")
    assert _leftovers(stage.world)


# --- real full disks


@contextmanager
def small_disk(point: Path, options: str) -> Iterator[Path]:
    """Mount a small file system in memory within the block; skip where that is not to be had."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount")
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(point)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.mark.parametrize("options", ["size=3m", "size=40m,nr_inodes=420"])
def test_a_disk_that_fills_up_keeps_what_it_has(options: str, tmp_path: Path) -> None:
    """Commits until nothing fits: the last one fails with 8, all others are whole; a gc frees room."""
    with small_disk(tmp_path / "disk", options) as disk:
        store = create(disk / "store")
        ballast = disk / "something else"
        ballast.write_bytes(bytes(100_000))
        sources = (
            write_model(tmp_path / "run", seed=number, files={"x": os.urandom(40_000)})
            for number in range(400)
        )
        done: list[object] = []
        with pytest.raises(DiskFullError):
            done.extend(commit(store, each, LINE, CommitOptions(parents=())) for each in sources)
        assert len(done) > 5
        assert not broken(disk, directories=False)
        entries = store.state(LINE).entries()
        assert len(entries) in {len(done), len(done) + 1}
        assert not list((store.meta / "tmp").glob("*/*"))
        gc(store, plan_gc(store, purge_now=True))  # needs no room, and here finds nothing to free
        ballast.unlink()
        rm(store, plan_rm(store, [resolve(store, f"v1.{n}") for n in range(1, 5)]))
        gc(store, plan_gc(store, purge_now=True))
        commit(store, next(sources), LINE, CommitOptions(parents=()))
        assert not broken(disk, directories=False)


def test_recorded_calls_are_those_that_were_made(arena: Path) -> None:
    """What the power cuts are made from is every call, in order, with its bytes."""
    stage = Stage(scene("use"), arena)
    stage.reset()
    calls: list[Any] = []
    with exchanged(Recording(calls)):
        stage.act()
    written = b"".join(c.arguments[1] for c in calls if c.name == "pwrite")
    assert written == (stage.world / "store/.mstore/config.json").read_bytes()
    assert [c.name for c in calls if c.name in {"fsync", "rename"}] == ["fsync", "rename", "fsync"]
