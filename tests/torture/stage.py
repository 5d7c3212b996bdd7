"""A scene that is played again and again from the same beginning, each time with another mishap."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelstore.ops.fsck import fsck
from modelstore.store import Store, is_store
from tests.faults import Counting, exchanged
from tests.torture.cuts import play, settings
from tests.torture.oracle import STORE, Facts, refusals, violations
from tests.torture.scenes import Scene


class Stage:
    """The first step of a scene, and what it finds.

    Args:
        scene: what is played; only its first step.
        directory: where; a world is made in it.
    """

    def __init__(self, scene: Scene, directory: Path) -> None:
        self.scene = scene
        self.world = directory / "world"
        self._template = directory / "template"
        played = play(scene, self.world, syncfs=False)
        _, self.allowed, self.after = played.acts[0]
        self.excused = played.excused
        self.world.mkdir()
        with settings(scene, self.world, syncfs=False):
            scene.prepare(self.world)
        self.world.rename(self._template)

    def reset(self) -> Path:
        """Put the world back to the beginning; return it."""
        shutil.rmtree(self.world, ignore_errors=True)
        shutil.copytree(self._template, self.world, symlinks=True)
        return self.world

    def act(self) -> None:
        """Do the step."""
        with settings(self.scene, self.world, syncfs=False):
            self.scene.steps[0](self.world)

    def count(self, matters: Callable[[str, tuple[Any, ...]], bool]) -> int:
        """Return how many calls that matter the step makes."""
        self.reset()
        counting = Counting(matters)
        with exchanged(counting):
            self.act()
        return counting.count

    def wrong_now(self) -> list[str]:
        """Return what is wrong after the step was cut short."""
        return violations(self.world, self.allowed, self.excused[0], done=False)

    def wrong_after_all(self) -> list[str]:
        """Do the step again, look at everything and change something; return what is wrong."""
        allowed: tuple[Facts, ...] = (self.after,)
        if self.scene.again:
            self.act()
        else:
            allowed = self.allowed
        wrong = violations(
            self.world, allowed, self.excused[1], done=self.scene.again, at_rest=False
        )
        return wrong or unclean(self.world, self.excused[1]) or refusals(self.world)


def unclean(world: Path, excused: set[str]) -> list[str]:
    """Return what fsck finds in the store of ``world``; nothing where something is excused."""
    root = world / STORE
    if excused or not is_store(root):
        return []
    return [f"fsck: {one.what}" for one in fsck(Store(root)).findings if one.serious]
