"""Every command is killed at every step of what it does to the disk, and so is what repairs that."""

from __future__ import annotations

import json
import shutil
from itertools import count
from pathlib import Path

import pytest

from modelstore.registry import VIEW
from tests.crashes import crashes
from tests.torture.length import LONG
from tests.torture.oracle import STORE
from tests.torture.scenes import LINE, SCENES, Scene, scene, store_in
from tests.torture.stage import Stage

QUICK = 3
"""About so many places of each command where it is killed in the short run."""


def steps(stage: Stage) -> int:
    """Return the number of places where the step of ``stage`` can die, found by halving."""
    low, high = 0, 4096
    while low < high:
        middle = (low + high + 1) // 2
        stage.reset()
        low, high = (middle, high) if crashes(stage.act, middle) else (low, middle - 1)
    return low


@pytest.mark.parametrize("one", SCENES, ids=lambda one: one.name)
def test_killed_anywhere_nothing_is_lost(one: Scene, arena: Path) -> None:
    """All that was acknowledged is there and whole, the command can be repeated, and fsck is clean."""
    stage = Stage(one, arena)
    places = steps(stage)
    assert places > 3
    tried = 0
    for step in range(1, places + 1, 1 if LONG else max(1, places // QUICK)):
        stage.reset()
        assert crashes(stage.act, step)
        assert not stage.wrong_now(), step
        assert not stage.wrong_after_all(), step
        tried += 1
    print(f"{one.name}: {tried} of {places} places")


@pytest.mark.parametrize("name", ["commit", "gc", "fsck --repair", "undelete from the trash"])
def test_killed_while_it_recovers_nothing_is_lost(name: str, arena: Path) -> None:
    """The command after a crash may crash, too, at every step; the third one ends it."""
    stage = Stage(scene(name), arena)
    places = steps(stage)
    hurt = arena / "hurt"
    for first in range(2, places + 1, 3 if LONG else max(3, places // 2)):
        stage.reset()
        assert crashes(stage.act, first)
        shutil.rmtree(hurt, ignore_errors=True)
        shutil.copytree(stage.world, hurt)
        for second in count(1, 1 if LONG else 17):
            shutil.rmtree(stage.world)
            shutil.copytree(hurt, stage.world)
            died = crashes(stage.act, second)
            assert not stage.wrong_now(), (first, second)
            assert not stage.wrong_after_all(), (first, second)
            if not died:
                break


@pytest.mark.parametrize("name", ["set-active", "commit, made active", "init"])
def test_a_repeated_command_brings_up_the_view(name: str, arena: Path) -> None:
    """Who repeats what was recorded but not published is told that it is so, and the view says it."""
    stage = Stage(scene(name), arena)
    places = steps(stage)
    for step in range(max(1, places - 8), places + 1):
        stage.reset()
        assert crashes(stage.act, step)
        stage.act()
        for model in store_in(stage.world).models():
            view = json.loads((stage.world / STORE / model / VIEW).read_bytes())
            assert view["seq"] == store_in(stage.world).state(model).seq


def test_the_oracle_sees_what_is_lost(arena: Path) -> None:
    """A store that lost a frame, a record, an alias or a byte is not taken for a good one."""
    stage = Stage(scene("alias"), arena)
    stage.reset()
    stage.act()
    stage.allowed = (stage.after,)
    assert not stage.wrong_now()
    whole = arena / "whole"
    shutil.copytree(stage.world, whole)
    store = store_in(stage.world)
    blob = next(iter(store.blobs.iter_digests()))
    frame = store.blobs.path(blob).relative_to(stage.world)
    records = Path(STORE) / ".mstore" / "refs" / LINE
    for what in (frame, records):
        shutil.rmtree(stage.world)
        shutil.copytree(whole, stage.world)
        hurt = stage.world / what
        if hurt.is_dir():
            newest = max(hurt.glob("0*.json"))
            newest.unlink()
            (stage.world / STORE / LINE / VIEW).unlink()
            (stage.world / STORE / LINE / "journal.jsonl").unlink()
        else:
            hurt.chmod(0o600)
            hurt.write_bytes(hurt.read_bytes()[:-1] + b"?")
        assert stage.wrong_now(), what
