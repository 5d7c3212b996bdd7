"""Several processes at one store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.pointer import set_active
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from tests.models import write_model

LINE = ModelName("m")
COMMITTERS = 10


def test_ten_processes_commit_ten_consecutive_versions(tmp_path: Path) -> None:
    """Ten commits at once all succeed, with consecutive numbers and a whole journal."""
    store = create(tmp_path / "store")
    commands = []
    for number in range(COMMITTERS):
        source = write_model(tmp_path / f"run{number}", seed=number)
        words = ["commit", str(source), "-M", "m", "-m", f"run {number}", "-q"]
        commands.append([sys.executable, "-m", "modelstore", "-C", str(store.root), *words])

    runs = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    said = {run.communicate(timeout=120)[0].strip() for run in runs}

    assert [run.returncode for run in runs] == [0] * COMMITTERS
    assert said == {f"m@v1.{number}" for number in range(COMMITTERS)}
    state = Store(store.root).state(LINE)
    assert [str(version) for version in state.versions()] == [f"v1.{n}" for n in range(10)]
    assert state.seq == COMMITTERS
    assert [row["seq"] for row in store.registry(LINE).journal()] == list(range(1, 11))
    assert {entry.text("message") for entry in state.entries()} == {f"run {n}" for n in range(10)}


def test_readers_never_wait_for_a_writer(tmp_path: Path) -> None:
    """While another process holds the store's lock, everything that only reads works."""
    store = create(tmp_path / "store")
    commit(store, write_model(tmp_path / "run"), LINE, CommitOptions())

    with store.lock():
        for words in (["log"], ["list"], ["active"], ["status"], ["show", "v1.0"], ["path"]):
            command = [sys.executable, "-m", "modelstore", "-C", str(store.root), *words]
            assert subprocess.run(command, timeout=60, capture_output=True).returncode == 0


def test_a_waiting_writer_gives_up_and_says_who_holds_the_lock(tmp_path: Path) -> None:
    """A writer that waits in vain exits with 11 and names the process."""
    store = create(tmp_path / "store")
    commit(store, write_model(tmp_path / "run"), LINE, CommitOptions())

    with store.lock():
        words = ["--lock-timeout", "0.2", "alias", "prod", "v1.0"]
        command = [sys.executable, "-m", "modelstore", "-C", str(store.root), *words]
        run = subprocess.run(command, timeout=60, capture_output=True, text=True)

    assert run.returncode == 11
    assert "process" in run.stderr
    assert store.state(LINE).aliases == {}


def test_compare_and_swap_lets_one_of_two_win(tmp_path: Path) -> None:
    """Of two that expect the same ACTIVE version, the second is refused."""
    store = create(tmp_path / "store")
    for number in range(3):
        commit(store, write_model(tmp_path / "run", seed=number), LINE, CommitOptions())
    set_active(store, resolve(store, "v1.1"), expect="v1.0")

    words = ["set-active", "v1.2", "--expect", "v1.0"]
    command = [sys.executable, "-m", "modelstore", "-C", str(store.root), *words]
    run = subprocess.run(command, timeout=60, capture_output=True, text=True)

    assert run.returncode == 5
    assert store.state(LINE).active == "v1.1"
