"""Pushes and pulls that are killed, and processes that push at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from modelstore.ops.fetch import fetch
from modelstore.ops.lines import read_line
from modelstore.remotes.directory import DirectoryRemote
from modelstore.store import Store, create
from tests.crashes import crashes
from tests.ops.remotes import (
    LINE,
    assert_quick,
    assert_sound,
    commit_model,
    made,
    place,
    pull_from,
    push_to,
)


@pytest.mark.parametrize("stride", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_a_push_that_is_killed_anywhere_goes_on(tmp_path: Path, stride: int) -> None:
    """At a directory, whatever a killed push left, the remote is as before or as after."""
    store = create(tmp_path / "store")
    commit_model(store, tmp_path / "run")
    for number, step in enumerate(range(1, 400, stride)):
        root = tmp_path / f"remote{step}"
        root.mkdir()

        def act(root: Path = root) -> None:
            push_to(Store(store.root), DirectoryRemote(root))

        died = crashes(act, step)
        remote = DirectoryRemote(root)
        line = read_line(remote, LINE)
        assert line is None or line.document == store.state(LINE).document
        act()
        if not died or number % 4 == 0:
            other = create(tmp_path / f"other{step}")
            assert pull_from(other, remote).versions == ("v1.0",)
        remote.close()
        if not died:
            break
    assert step > 20


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["new", "forward", "rebased"])
def test_a_pull_that_is_killed_anywhere_goes_on(tmp_path: Path, how: str, stride: int) -> None:
    """Our registry is as before, or as after, or in between as theirs was; pulling again does it."""
    first, remote = create(tmp_path / "first"), DirectoryRemote(made(tmp_path / "remote"))
    commit_model(first, tmp_path / "run")
    push_to(first, remote)
    begun = create(tmp_path / "begun")
    if how != "new":
        pull_from(begun, remote)
    if how == "rebased":
        commit_model(begun, tmp_path / "run", step=5e-4)
        commit_model(begun, tmp_path / "run", step=6e-4)
        commit_model(begun, tmp_path / "run", step=7e-4)
    commit_model(first, tmp_path / "run", step=1e-4)
    push_to(first, remote)
    fetch(begun, place(remote))  # so that only what decides is left to be done
    wanted = {"new": 2, "forward": 2, "rebased": 5}[how]
    for step in range(1, 600, stride):
        root = tmp_path / f"store{step}"
        shutil.copytree(begun.root, root)

        def act(root: Path = root) -> None:
            with closing(DirectoryRemote(tmp_path / "remote")) as at:
                pull_from(Store(root), at, rebase=True)

        died = crashes(act, step)
        store = Store(root)
        if died and how != "new":
            assert len(store.state(LINE).versions()) in {1, 4, wanted}
        act()
        assert len(store.state(LINE).versions()) == wanted
        assert_quick(store)
        shutil.rmtree(root)
        if not died:
            break
    assert step > 20


def test_a_pull_that_is_killed_while_frames_come_goes_on(tmp_path: Path) -> None:
    """What came is sound and stays; the next pull brings the rest."""
    first, root = create(tmp_path / "first"), made(tmp_path / "remote")
    commit_model(first, tmp_path / "run")
    commit_model(first, tmp_path / "run", step=1e-4)
    with closing(DirectoryRemote(root)) as remote:
        push_to(first, remote)
    for step in range(1, 1000, 17):
        store = create(tmp_path / f"store{step}")

        def act(store: Store = store) -> None:
            with closing(DirectoryRemote(root)) as at:
                pull_from(Store(store.root), at)

        died = crashes(act, step)
        assert all(map(store.blobs.is_sound, store.blobs.iter_digests()))
        act()
        assert len(store.state(LINE).versions()) == 2
        assert_quick(store)
        if not died:
            break
    assert step > 20


def test_of_two_processes_that_push_at_once_one_wins(tmp_path: Path) -> None:
    """The other exits with 5 and a hint; after a pull --rebase it can push, and nothing is lost."""
    root = made(tmp_path / "remote")
    first = create(tmp_path / "first")
    commit_model(first, tmp_path / "run")
    with closing(DirectoryRemote(root)) as remote:
        push_to(first, remote)
        stores = [create(tmp_path / name) for name in ("a", "b", "c")]
        for number, store in enumerate(stores):
            pull_from(store, remote)
            commit_model(store, tmp_path / "run", step=1e-4 * (number + 1))
    command = [sys.executable, "-m", "modelstore", "-C"]
    runs = [subprocess.Popen([*command, s.root, "push", str(root)]) for s in stores]
    codes = [run.wait(timeout=120) for run in runs]
    assert sorted(codes) == [0, 5, 5]
    with closing(DirectoryRemote(root)) as remote:
        for store, code in zip(stores, codes, strict=True):
            if code:
                pull_from(Store(store.root), remote, rebase=True)
                push_to(Store(store.root), remote)
        pull_from(first, remote)
    assert [str(v) for v in first.state(LINE).versions()] == ["v1.0", "v1.1", "v1.2", "v1.3"]
    assert len({entry.id for entry in first.state(LINE).entries()}) == 4
    assert_sound(first)
