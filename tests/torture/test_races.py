"""Many processes at one pointer, and a repack beside commits: no change is lost, none is made twice."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.gc import EVERYTHING, gc, plan_gc
from modelstore.ops.pointer import set_active
from modelstore.ops.repack import repack
from modelstore.ops.resolve import resolve
from modelstore.store import Store
from tests.torture.length import LONG
from tests.torture.scenes import LINE, STORE, commit_run, trained, two

PROCESSES = 8
MOVES = 200 if LONG else 15
COMMITS = 25 if LONG else 4


def in_processes(*actions: Callable[[], int]) -> list[int]:
    """Run every action in a process of its own, all at once; return what each returned, below 256."""
    children = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside idle threads
        for action in actions:
            child = os.fork()
            if child == 0:
                _end_with(action)
            children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert 255 not in codes
    return codes


def _end_with(action: Callable[[], int]) -> None:
    try:
        code = action()
    except BaseException:
        traceback.print_exc()
        code = 255
    sys.stdout.flush()
    os._exit(code)


def test_every_move_of_active_counts_once(arena: Path) -> None:
    """Of eight processes that move ACTIVE all the time, each move is one change, and none is lost."""
    two(arena)
    root = arena / STORE
    before = Store(root).state(LINE).seq

    def moves(number: int) -> Callable[[], int]:
        def run() -> int:
            store, moved = Store(root), 0
            for step in range(MOVES):
                done = set_active(store, resolve(store, f"v1.{(number + step) % 2}"))
                moved += done.before != done.after
            return moved

        return run

    moved = in_processes(*(moves(number) for number in range(PROCESSES)))
    store = Store(root)
    rows = store.registry(LINE).journal()
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert store.state(LINE).seq == len(rows)
    active = [row["active"] for row in rows if row.get("active")]
    changes = sum(one != other for one, other in pairwise(active))
    assert sum(moved) == changes
    assert store.state(LINE).seq > before
    assert fsck(store).sound


def test_commits_repacks_and_gcs_at_once(arena: Path) -> None:
    """Two committers on one line, repacks that choose the same bases, and gcs leave every byte."""
    two(arena)
    root = arena / STORE
    for number in range(3, 3 + 2 * COMMITS):
        trained(arena, number)

    def commits(first: int) -> Callable[[], int]:
        def run() -> int:
            for number in range(first, 3 + 2 * COMMITS, 2):
                commit(
                    Store(root), arena / f"run{number}", LINE, CommitOptions(message=f"{number}")
                )
            return 0

        return run

    def repacks() -> int:
        for _ in range(COMMITS):
            repack(Store(root))
        return 0

    def collects() -> int:
        store = Store(root)
        for _ in range(COMMITS):
            gc(store, plan_gc(store, EVERYTHING))
        return 0

    in_processes(commits(3), commits(4), repacks, collects)
    store = Store(root)
    assert {entry.text("message") for entry in store.state(LINE).entries()} >= {
        str(number) for number in range(3, 3 + 2 * COMMITS)
    }
    assert fsck(store, Level.FULL).sound


def test_a_lost_move_would_be_noticed(arena: Path) -> None:
    """What the children report can be told from what the journal says."""
    two(arena)
    commit_run(2)(arena)
    assert in_processes(lambda: 3, lambda: 4) == [3, 4]
