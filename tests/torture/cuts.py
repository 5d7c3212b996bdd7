"""Plays scenes with every call written down, and cuts the power everywhere in what was written."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelstore import groupsync, registry
from modelstore.registry import VIEW
from tests.faults import SYNCS, Call, Recording, exchanged
from tests.torture.oracle import Facts, broken, facts, refusals, violations
from tests.torture.power import Disk, Tree, lay, scan
from tests.torture.scenes import Scene

Site = tuple[str, ...]


@dataclass(frozen=True)
class Played:
    """A scene as it was played.

    Attributes:
        world: where.
        before: what lay there.
        calls: all that were made.
        acts: for each step where its calls end, the facts that may be found while it runs, and
            those that must be found when it is done.
        excused: versions that were broken before, and those that still are after the last step.
    """

    world: Path
    before: Tree
    calls: Sequence[Call]
    acts: Sequence[tuple[int, tuple[Facts, ...], Facts]]
    excused: tuple[set[str], set[str]]

    def sites(self) -> list[Site]:
        """Return the places that something is synced from, in the order they come up."""
        return list(dict.fromkeys(call.site for call in self.calls if call.name in SYNCS))


class _Witness(Recording):
    """Also looks at the store whenever a registry was published."""

    def __init__(self, calls: list[Call], world: Path) -> None:
        super().__init__(calls)
        self.world = world
        self.seen: list[Facts] = []

    def made(self, call: Call) -> None:
        if call.name == "rename" and call.arguments[1].name == VIEW:
            self.seen.append(facts(self.world))


def play(scene: Scene, world: Path, *, syncfs: bool) -> Played:
    """Play a scene in ``world``, which must not exist, on a file system with syncfs or without."""
    world.mkdir()
    calls: list[Call] = []
    acts: list[tuple[int, tuple[Facts, ...], Facts]] = []
    with settings(scene, world, syncfs=syncfs):
        scene.prepare(world)
        before, now = scan(world), facts(world)
        bad = broken(world, directories=True)
        for step in scene.steps:
            witness = _Witness(calls, world)
            with exchanged(witness):
                step(world)
            then = facts(world)
            acts.append((len(calls), (now, *witness.seen, then), then))
            now = then
    left = broken(world, directories=True)
    shutil.rmtree(world)
    return Played(world, before, calls, acts, (bad, left))


def settings(scene: Scene, world: Path, *, syncfs: bool) -> ExitStack:
    """Let the store sync and compact as the scene is played, within the block."""
    stack = ExitStack()
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(registry, "COMPACT_EVERY", scene.compact_every)
    kind = groupsync._statfs_type(world)
    patch.setattr(groupsync, "_SYNCFS_TRUSTED", {kind: "this"} if syncfs else {})
    patch.setattr(groupsync, "_FEW_FILES", 0)
    return stack


@dataclass(frozen=True)
class Cut:
    """One state of the disk after a power cut.

    Attributes:
        at: how many calls had been made.
        allowed: what may be found.
        done: whether no command was under way.
        tree: what lies there.
    """

    at: int
    allowed: tuple[Facts, ...]
    done: bool
    excused: set[str]
    tree: Tree


def cuts(
    played: Played, seed: int, count: int, seen: set[int], *, lost: Site | None = None
) -> Iterator[Cut]:
    """Yield the states after a power cut before any call, and after the last; each once.

    Args:
        count: how many states are drawn by chance at each place, beside the extremes.
        seen: states that were yielded before; these are added.
        lost: a place whose syncs do nothing.
    """
    chance = random.Random(seed)
    disk = Disk(played.world, played.before)
    start = 0
    for end, allowed, then in played.acts:
        for at in range(start, end + 1):
            done = at == end
            if at > start:
                call = played.calls[at - 1]
                disk.make(call, lost=call.site == lost)
                if call.name in {"close", "chmod"} and not done:
                    continue
            may = (then,) if done else allowed
            excused = played.excused[1 if end == played.acts[-1][0] and done else 0]
            for tree in disk.cuts(chance, count):
                key = hash((end, done, frozenset(tree.items())))
                if key not in seen:
                    seen.add(key)
                    yield Cut(at, may, done, excused, tree)
        start = end


def judge(played: Played, cut: Cut, *, probe: bool) -> list[str]:
    """Return what is wrong after a power cut; ``probe``: also with the next change."""
    lay(cut.tree, played.world)
    try:
        wrong = violations(played.world, cut.allowed, cut.excused, done=cut.done)
        if probe and not wrong:
            wrong = refusals(played.world)
        return wrong
    finally:
        shutil.rmtree(played.world)


def describe(played: Played, cut: Cut, wrong: list[str]) -> dict[str, Any]:
    """Return what a failed test prints."""
    last = played.calls[cut.at - 1] if cut.at else None
    return {
        "wrong": wrong,
        "after call": cut.at,
        "which was": last and (last.name, [str(a)[:80] for a in last.arguments], last.site),
        "files": sorted(name for name, data in cut.tree.items() if data is not None),
    }
