"""Staging: who is at work is known, and what the dead left is not taken for it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from modelstore.blobs import BlobStore, remove_abandoned
from modelstore.blobs.staging import Staging
from modelstore.errors import LockTimeoutError
from modelstore.locks import locked

STAGE = """
import sys
from pathlib import Path
from modelstore.blobs.staging import Staging
with Staging(Path(sys.argv[1])):
    print("staging", flush=True)
    sys.stdin.read()
"""


def test_others_are_seen_while_they_live(store: BlobStore):
    """A process that stages counts until it ends, be it by a kill."""
    with Staging(store.root) as ours:
        assert ours.is_alone()
        command = [sys.executable, "-c", STAGE, str(store.root)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as process:
            assert process.stdout.readline() == "staging\n"
            assert not ours.is_alone()
            process.send_signal(signal.SIGKILL)
            process.wait(60)
            process.stdin.close()
        assert ours.is_alone()
        assert remove_abandoned(store.root) == 1
        assert ours.directory.is_dir()
    assert list((store.root / "tmp").iterdir()) == []


def test_nobody_begins_while_the_lock_is_held(store: BlobStore):
    """Who holds the store's lock and is alone stays alone, for a new one would have to wait."""
    with Staging(store.root) as ours, ours.lock():
        assert ours.is_alone()
        with pytest.raises(LockTimeoutError), Staging(store.root, lock_timeout=0.05):
            pass
        assert ours.is_alone()


def test_two_at_once(store: BlobStore):
    """Each has a directory of its own, and sees the other."""
    with Staging(store.root) as one:
        with Staging(store.root) as two:
            assert one.directory != two.directory
            assert not one.is_alone()
            assert not two.is_alone()
        assert one.is_alone()


def test_locks_of_those_who_never_had_a_directory_go(store: BlobStore):
    """Unless somebody holds one, and so is about to make its directory."""
    dead, live = store.root / "tmp/dead.lock", store.root / "tmp/live.lock"
    dead.write_bytes(b"")
    dead.with_suffix(".owner").write_text("{}")
    with locked(live):
        assert remove_abandoned(store.root) == 0
        assert live.exists()
    assert not dead.exists()
    assert not dead.with_suffix(".owner").exists()
