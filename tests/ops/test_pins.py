"""What is pinned stays, as long as the process that pinned it lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelstore.errors import IntegrityError
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops import pins
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.live import Live
from modelstore.ops.resolve import resolve
from modelstore.ops.rm import plan_rm, rm
from modelstore.store import Store
from tests.models import write_model

LINE = ModelName("llama_1b")

_HOLDER = """
import sys
from pathlib import Path
from modelstore.ops.pins import pin
from modelstore.store import Store
store = Store(Path(sys.argv[1]))
with pin(store) as held:
    with store.lock():
        held.add(sys.argv[2:])
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A model with two versions."""
    for number in range(2):
        source = write_model(tmp_path / f"run{number}", step=number * 1e-3)
        commit(store, source, LINE, CommitOptions(message=f"number {number}"))
    return store


def id_of(store: Store, ref: str) -> Digest:
    """Return the id of a version."""
    digest = resolve(store, ref).id
    assert digest is not None
    return digest


def removed(store: Store) -> Digest:
    """Remove v1.1; return its id."""
    digest = id_of(store, "v1.1")
    rm(store, plan_rm(store, [resolve(store, "v1.1")], force=True))
    return digest


def test_what_is_pinned_is_needed(line: Store) -> None:
    """A removed version counts as long as it is pinned, with all that its frames are built on."""
    whole = Live(line).blobs()
    with pins.pin(line) as held:
        with line.lock():
            held.add([id_of(line, "v1.1")])
        removed(line)
        assert Live(line).blobs() == whole
        assert gc(line, plan_gc(line, purge_now=True)).frames == 0
    assert Live(line).blobs() < whole
    assert gc(line, plan_gc(line, purge_now=True)).frames > 0


def test_the_pin_of_a_killed_process_is_nobodys(line: Store) -> None:
    """It counts while the process lives, and is removed by gc afterwards."""
    digest = removed(line)
    words = [sys.executable, "-c", _HOLDER, str(line.root), digest]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert pins.held(line) == {digest}
        assert gc(line, plan_gc(line)).frames == 0
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert pins.held(line) == set()
    done = gc(line, plan_gc(line))
    assert done.frames > 0
    assert done.debris >= 1
    assert list((line.meta / "pins").iterdir()) == []


def test_a_pin_that_is_let_go_leaves_nothing(line: Store) -> None:
    """Neither a file nor a lock."""
    with pins.pin(line) as held, line.lock():
        held.add([])
        assert pins.held(line) == set()
    assert list((line.meta / "pins").iterdir()) == []


def test_nothing_goes_beside_a_pin_that_cannot_be_read(line: Store) -> None:
    """What a running backup needs cannot be known then."""
    with pins.pin(line):
        path = next((line.meta / "pins").glob("*.lock")).with_suffix(".json")
        path.write_text("{}")
        with pytest.raises(IntegrityError, match="nothing was deleted"):
            plan_gc(line)
        path.unlink()
