"""What durability costs: commits of a model of 300 tensors with all syncs, and with none.

Three ways take turns, each with a new store in every round: as mstore syncs (a syncfs for all
frames), as it does where syncfs is not to be trusted (an fsync for each), and not at all.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import measure
import numpy as np
from safetensors.numpy import save_file

from modelstore import disk, groupsync
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.pointer import set_active
from modelstore.ops.resolve import resolve
from modelstore.store import create
from modelstore.syscalls import Syscalls

MODEL = ModelName("line")
TENSORS = 300
SHAPE = (256, 256)
ROUNDS = 9


class Unsynced(Syscalls):
    """Syncs nothing, and says that it did."""

    def fsync(self, handle: int) -> None:
        """Do nothing."""

    def syncfs(self, handle: int) -> None:
        """Do nothing."""


WAYS = ("syncfs", "an fsync each", "no sync")


@contextmanager
def way(name: str) -> Iterator[None]:
    """Sync in one of the ways within the block."""
    trusted = groupsync._SYNCFS_TRUSTED if name == "syncfs" else {}  # noqa: SLF001  (measured here)
    calls = Unsynced() if name == "no sync" else disk.calls
    with (
        mock.patch.object(groupsync, "_SYNCFS_TRUSTED", trusted),
        mock.patch.object(disk, "calls", calls),
    ):
        yield


def report(work: Path) -> str:
    """Return the table."""
    root = work / "durability"
    shutil.rmtree(root, ignore_errors=True)
    versions = [write_model(root / f"v{number}", number) for number in range(2)]
    taken: dict[tuple[str, str], list[float]] = {}
    run(root / "warm", versions)
    for _ in range(ROUNDS):
        for name in WAYS:
            os.sync()  # what others left to be written is not this one's to pay for
            with way(name):
                for what, seconds in run(root / "store", versions).items():
                    taken.setdefault((name, what), []).append(seconds)
    shutil.rmtree(root)
    rows = []
    for what in ("first commit", "commit of a change", "set-active"):
        figures = {name: statistics.median(taken[name, what]) for name in WAYS}
        times = [f"{figures[name]:.3f} s" for name in WAYS]
        rows.append((what, *times, f"{figures['syncfs'] / figures['no sync']:.2f} x"))
    return measure.table(("command", *WAYS, "syncfs beside no sync"), rows)


def run(root: Path, versions: list[Path]) -> dict[str, float]:
    """Commit both versions to a new store; return the wall seconds of each command."""
    store = create(root)
    options = CommitOptions()
    done = {
        "first commit": timed(lambda: commit(store, versions[0], MODEL, options)),
        "commit of a change": timed(lambda: commit(store, versions[1], MODEL, options)),
        "set-active": timed(lambda: set_active(store, resolve(store, "v1.1"))),
    }
    shutil.rmtree(root)
    return done


def timed(action: object) -> float:
    """Return the wall seconds of a call."""
    assert callable(action)
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def write_model(directory: Path, number: int) -> Path:
    """Write a model of random weights in float16, ``number`` small steps away from the first."""
    directory.mkdir(parents=True)
    random, steps = np.random.default_rng(1), np.random.default_rng(2)
    tensors = {}
    for name in range(TENSORS):
        values = random.normal(0, 0.02, SHAPE) + number * steps.normal(0, 1e-4, SHAPE)
        tensors[f"layer.{name}"] = values.astype(np.float16)
    save_file(tensors, directory / "model.safetensors")
    return directory
