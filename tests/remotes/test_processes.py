"""Processes at a real server: those that are killed, and those that change what is being sent."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from modelstore.ops.backup import BackedUp, backup
from modelstore.ops.backup_check import check
from modelstore.ops.backup_document import read_all
from modelstore.ops.backup_prune import plan_prune, prune
from modelstore.ops.backup_retention import BackupPolicy
from modelstore.ops.fsck import Level, fsck, parse_subset
from modelstore.ops.restore import plan_restore, restore
from modelstore.remotes.base import Remote
from modelstore.store import Store, create
from tests.models import write_model
from tests.ops.remotes import LINE, assert_quick, commit_model, files_out
from tests.remotes.proxy import Proxy
from tests.remotes.scenes import Files, Spot, all_files, kill, spot_in, then
from tests.remotes.servers import Place

pytestmark = [pytest.mark.remote, pytest.mark.slow]

WORKERS = "tests.remotes.workers"
HITS = (*range(0, 42, 3), 1000)
"""Requests at which a prune is killed, the last of which it never makes."""


def killed_at(proxy: Proxy, hit: int, run: partial[subprocess.Popen[bytes]]) -> bool:
    """Run a client, kill it when its request number ``hit`` comes; tell whether it was killed."""
    runs: list[subprocess.Popen[bytes]] = []
    proxy.begin(then(hit, partial(kill, runs)))
    runs.append(run())
    _, said = runs[0].communicate(timeout=120)
    proxy.begin()
    assert runs[0].returncode in {0, -9}, said
    return runs[0].returncode == -9


def wait_for(run: subprocess.Popen[bytes]) -> None:
    """Wait for a process that is to succeed."""
    _, said = run.communicate(timeout=120)
    assert run.returncode == 0, said


# --- kill -9


def two_backups(line: Store, other: Store, spot: Spot) -> Spot:
    """Back up another store, which a prune lets go, and then ``line``."""
    backup(other, spot.remote())
    backup(line, spot.remote())
    return spot


def prune_all(spots: list[Spot]) -> None:
    """Prune every place, of marks and frames that are a second apart by a clock of whole ones."""
    time.sleep(1.1)
    for spot in spots:
        remote = spot.remote()
        prune(remote, plan_prune(remote, BackupPolicy(last=1)), timedelta(0))
    time.sleep(1.1)


@pytest.mark.parametrize("stage", ["marking", "sweeping"])
def test_a_prune_that_is_killed_loses_nothing(
    line: Store, content: Files, bucket: Place, proxy: Proxy, tmp_path: Path, stage: str
) -> None:
    """Killed at any request, the newest backup is whole; the next two prunes do all that is due."""
    other = create(tmp_path / "other")
    commit_model(other, tmp_path / "run", step=1.0)
    spots = [two_backups(line, other, spot_in(bucket, proxy)) for _ in HITS]
    prune_all(spots if stage == "sweeping" else [])
    died: list[bool] = []
    for hit, spot in zip(HITS, spots, strict=True):
        pruning = partial(spot.start, WORKERS, "prunes", spot.far, "")
        died.append(killed_at(proxy, hit, pruning))
        remote = spot.remote()
        assert check(remote, parse_subset("100%")).sound, hit
        back = restore(remote, plan_restore(remote, tmp_path / f"back{hit}")).store
        assert all_files(back) == content
    assert died.count(True) > 4
    assert died[-1] is False
    prune_all(spots)
    prune_all(spots)
    for hit, spot in zip(HITS, spots, strict=True):
        assert check(spot.remote(), parse_subset("100%")).sound
        assert not unneeded(spot.remote(), line), hit


def unneeded(remote: Remote, line: Store) -> set[str]:
    """Return the frames at a remote that only the backup of another store needed."""
    [kept] = read_all(remote)
    files = {digest for file in kept.files for digest, _ in file.spans}
    needed = {*files, *line.blobs.iter_digests()}
    return {found.key.rpartition("/")[2] for found in remote.list("blobs")} - needed


@pytest.mark.parametrize("how", ["whole", "lazy"])
def test_a_clone_that_is_killed_goes_on(
    content: Files, source: Spot, proxy: Proxy, tmp_path: Path, how: str
) -> None:
    """Killed at any request, there is nothing, or what another clone completes, with every byte."""
    flags = ["--lazy"] if how == "lazy" else []
    for hit in range(0, 60, 5):
        root = tmp_path / f"clone{hit}"
        cloning = partial(source.run, tmp_path, "clone", *flags, source.far, str(root))
        died = killed_at(proxy, hit, cloning)
        if died:
            wait_for(cloning())
        for version in content if how == "lazy" else ():
            reading = partial(source.run, root, "verify", f"{LINE}@{version}")
            if killed_at(proxy, hit % 12, reading):
                wait_for(reading())
        store = Store(root)
        assert all_files(store) == content, hit
        assert_quick(store)
        if not died:
            break
    assert hit > 4


# --- at work beside each other


@contextmanager
def beside(spot: Spot, *works: tuple[str, Path, Path]) -> Iterator[None]:
    """Run workers; each must have succeeded in the end."""
    runs = [spot.start(WORKERS, work, str(root), str(what)) for work, root, what in works]
    yield
    for run in runs:
        wait_for(run)


def test_a_backup_beside_other_processes_is_a_state_that_existed(
    bucket: Place, tmp_path: Path
) -> None:
    """While processes commit, remove, collect and repack, every backup restores to what there was."""
    spot, stop = spot_in(bucket), tmp_path / "stop"
    store = create(tmp_path / "store")
    for number in range(20):
        write_model(tmp_path / "runs" / f"{number:02}", step=number * 1e-3)
    expected = {
        path.name: (path / "model.safetensors").read_bytes()
        for path in (tmp_path / "runs").iterdir()
    }
    commit_model(store, tmp_path / "run")
    made: list[BackedUp] = []
    with beside(
        spot,
        ("commits", store.root, tmp_path / "runs"),
        ("collects", store.root, stop),
        ("repacks", store.root, stop),
    ):
        deadline = time.monotonic() + 100
        while "19" not in messages(store) and time.monotonic() < deadline:
            made.append(backup(Store(store.root), spot.remote()))
        stop.touch()
    assert len(made) > 2
    assert check(spot.remote(), parse_subset("100%")).sound
    heads = {row["prev"] for row in store.registry(LINE).journal()} | {store.state(LINE).head}
    for number, one in enumerate(made):
        assert one.backup.complete
        assert one.backup.models[LINE].head in heads
        remote = spot.remote()
        plan = plan_restore(remote, tmp_path / f"copy{number}", at=one.backup.name)
        copy = restore(remote, plan).store
        assert copy.state(LINE).head == one.backup.models[LINE].head
        assert fsck(copy, Level.FULL).findings == ()
        for entry in copy.state(LINE).entries():
            name = entry.text("message")
            if name in expected:
                files = files_out(copy, str(entry.version))
                assert files["model.safetensors"] == expected[name]
    assert fsck(store, Level.FULL).sound


def messages(store: Store) -> set[str]:
    """Return what the commits of a store said."""
    return {entry.text("message") for entry in store.state(LINE).entries()}
