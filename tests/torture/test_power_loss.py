"""The power is cut everywhere in what commands do to the disk; `tests.torture.power` says how."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.faults import Call
from tests.torture.cuts import Cut, Played, Site, cuts, describe, judge, play
from tests.torture.length import LONG
from tests.torture.power import Disk, Fate
from tests.torture.scenes import SCENES, Scene, scene

SEEDS = range(2) if LONG else range(1)
BY_CHANCE = 2 if LONG else 0
QUICK = 12
"""States of each command that are looked at in the short run."""

PLAYED = [(one, syncfs) for one in SCENES for syncfs in (True, False)]
"""Every command on file systems whose syncfs is trusted, and on others; in turn in the short run."""

if not LONG:
    PLAYED = [pair for number, pair in enumerate(PLAYED) if number % 4 in {0, 3}]

STORY = ("first commit", "checkout -o", "release", "use")
"""Commands whose syncs are taken away one by one in the short run; in the long run it is all."""


@pytest.mark.parametrize(
    ("one", "syncfs"),
    PLAYED,
    ids=[f"{one.name}-{'syncfs' if on else 'fsync'}" for one, on in PLAYED],
)
def test_after_a_power_cut_nothing_is_lost(one: Scene, syncfs: bool, arena: Path) -> None:
    """Whatever a disk may legally hold then: all that was acknowledged is there, whole, and usable."""
    played = play(one, arena / "world", syncfs=syncfs)
    looked = 0
    seen: set[int] = set()
    for seed in SEEDS:
        states = list(cuts(played, seed, BY_CHANCE, seen))
        chosen = states if LONG else _some(states)
        for number, state in enumerate(chosen):
            wrong = judge(played, state, probe=LONG or number % 4 == 0)
            assert not wrong, json.dumps(describe(played, state, wrong), indent=1, default=str)
        looked += len(chosen)
    print(f"{one.name}: {looked} states after {len(played.calls)} calls")


def _some(states: list[Cut]) -> list[Cut]:
    """Return a few states, and all that may be found when the command is done."""
    chosen = random.Random(1).sample(states, min(QUICK, len(states)))
    return [*chosen, *(state for state in states if state.done)][: QUICK + QUICK // 2]


def survivors(
    scenes: list[Scene], arena: Path, by_chance: tuple[int, ...]
) -> tuple[list[Site], list[Site]]:
    """Return the places whose syncs may be left out unnoticed, and all places that sync."""
    places: dict[Site, bool] = {}
    for one in scenes:
        for syncfs in (False, True):
            played = play(one, arena / "world", syncfs=syncfs)
            known: set[int] = set()
            for _ in cuts(played, 1, by_chance[0], known):
                pass  # what an honest disk may hold is judged by the test above
            for site in played.sites():
                places[site] = places.get(site, False) or any(
                    _is_missed(played, site, known, more) for more in by_chance
                )
    return [site for site, missed in places.items() if not missed], list(places)


def _is_missed(played: Played, site: Site, known: set[int], by_chance: int) -> bool:
    states = list(cuts(played, 1, by_chance, set(known), lost=site))
    return any(judge(played, state, probe=True) for state in reversed(states))


def test_no_sync_can_be_left_out(arena: Path) -> None:
    """Whichever sync is taken from the code, some power cut is found that breaks a promise."""
    scenes = list(SCENES) if LONG else [scene(name) for name in STORY]
    left, places = survivors(scenes, arena, (2, 12) if LONG else (2,))
    print(f"{len(places) - len(left)} of {len(places)} syncs are missed when they are left out")
    for site in left:
        print("not missed:", " <- ".join(site))
    # The journal's own sync is missed only after many changes, which the long run makes.
    assert all(not LONG and "append_journal" in site[-1] for site in left)


# --- the model of the disk itself


def made(*calls: tuple[str, tuple[object, ...], object]) -> list[Call]:
    """Return calls as they are written down."""
    return [Call(name, arguments, result, ()) for name, arguments, result in calls]


TOP = Path("/w")
NEW = 0o102  # O_RDWR | O_CREAT


def disk_after(*calls: tuple[str, tuple[object, ...], object]) -> Disk:
    """Return a disk with the durable file `a` on which calls were made."""
    disk = Disk(TOP, {"a": b"old"})
    for call in made(*calls):
        disk.make(call)
    return disk


def outcomes(disk: Disk) -> set[tuple[tuple[str, bytes | None], ...]]:
    """Return what may be left, as far as chance shows it."""
    states = disk.cuts(random.Random(1), 200)
    return {tuple(sorted(tree.items())) for tree in states}


def test_a_name_without_a_sync_may_be_lost_and_its_bytes_too() -> None:
    """A file that was only written may be absent, empty, zeros, cut off, or whole."""
    disk = disk_after(("open", (TOP / "b", NEW), 3), ("pwrite", (3, b"data", 0), 4))
    found = {dict(state).get("b") for state in outcomes(disk)}
    assert found >= {None, b"", bytes(4), b"data", b"da"}
    assert all(dict(state)["a"] == b"old" for state in outcomes(disk))


def test_a_synced_file_may_lose_its_name_only() -> None:
    """An fsync of the file makes its bytes durable, and one of the directory its name."""
    calls = [("open", (TOP / "b", NEW), 3), ("pwrite", (3, b"data", 0), 4), ("fsync", (3,), None)]
    assert {dict(s).get("b") for s in outcomes(disk_after(*calls))} == {None, b"data"}
    calls += [("open", (TOP, 0), 4), ("fsync", (4,), None)]
    disk = disk_after(*calls)
    assert disk.clean()
    assert outcomes(disk) == {(("a", b"old"), ("b", b"data"))}


def test_a_name_may_be_durable_without_its_bytes() -> None:
    """An fsync of the directory alone leaves a file that may hold anything."""
    calls = [("open", (TOP / "b", NEW), 3), ("pwrite", (3, b"data", 0), 4)]
    disk = disk_after(*calls, ("open", (TOP, 0), 4), ("fsync", (4,), None))
    assert {dict(s)["b"] for s in outcomes(disk)} >= {b"", bytes(4), b"data"}


def test_a_rename_within_a_directory_is_whole() -> None:
    """The target is the old file or the new one, and never neither."""
    calls = [("open", (TOP / "b", NEW), 3), ("pwrite", (3, b"new", 0), 3), ("fsync", (3,), None)]
    disk = disk_after(*calls, ("rename", (TOP / "b", TOP / "a"), None))
    assert {dict(s).get("a") for s in outcomes(disk)} == {b"old", b"new"}


def test_a_syncfs_makes_all_durable() -> None:
    """Whatever was done before it, in any directory."""
    disk = disk_after(
        ("mkdir", (TOP / "d",), None),
        ("open", (TOP / "d/b", NEW), 3),
        ("pwrite", (3, b"data", 0), 4),
        ("syncfs", (3,), None),
    )
    assert disk.clean()
    assert dict(disk.after_cut([], Fate("old", random.Random(1))))["d/b"] == b"data"
