"""Writers to a directory that die at every step, and disks that lose their power."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from modelstore.remotes.content import MadeContent
from modelstore.remotes.directory import DirectoryRemote, create_directory
from tests.crashes import crashes
from tests.faults import Call, Recording, exchanged
from tests.torture.power import Disk, Tree, scan

Values = dict[str, bytes]
Step = tuple[Callable[[DirectoryRemote], object], Values]

LARGE = bytes(range(256)) * 20

STEPS: list[Step] = [
    (lambda remote: remote.put("a/b", b"old"), {"a/b": b"old"}),
    (lambda remote: remote.put_if_absent("c/d/e", LARGE), {"c/d/e": LARGE}),
    (lambda remote: remote.swap("r", b"1", None), {"r": b"1"}),
    (lambda remote: remote.put("a/b", made()), {"a/b": LARGE}),
    (lambda remote: remote.swap("r", b"2", remote.get_tagged("r")[1]), {"r": b"2"}),
    (lambda remote: remote.put_if_absent("r", b"3"), {}),
]
"""What is done one after the other, and the values that each changes."""


def made() -> MadeContent:
    """Return a value that is made in pieces."""
    return MadeContent(len(LARGE), lambda: iter([LARGE[:1000], LARGE[1000:]]))


def states() -> list[Values]:
    """Return what is there before the first step and after each."""
    found: list[Values] = [{}]
    for _, changes in STEPS:
        found.append(found[-1] | changes)
    return found


def values(tree: Tree) -> Values:
    """Return the values that a directory with these files holds."""
    return {
        path: data
        for path, data in tree.items()
        if data is not None and not path.startswith(".mstore-tmp")
    }


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_writer_may_die_at_every_step(tmp_path: Path, stride: int) -> None:
    """What is there is one of the states between steps, and the next writer goes on and cleans up."""

    def run(root: Path) -> None:
        remote = DirectoryRemote(root)
        for step, _ in STEPS:
            step(remote)
        remote.close()

    for step in range(1, 500, stride):
        root = tmp_path / str(step)
        root.mkdir()
        died = crashes(lambda root=root: run(root), step)
        assert values(scan(root)) in states()
        remote = DirectoryRemote(root)
        remote.delete([found.key for found in remote.list()])
        for again, _ in STEPS:
            again(remote)
        assert values(scan(root)) == states()[-1]
        remote.close()
        assert not [path for path in (root / ".mstore-tmp").iterdir() if path.is_dir()]
        if not died:
            return
    raise AssertionError("it takes too many steps")


def wrong_after_cuts(root: Path, *, lost: bool) -> tuple[int, int]:
    """Do all steps in ``root``, cut the power before and after each call.

    Args:
        root: does not exist.
        lost: whether syncs do nothing.

    Returns:
        how many states that may be found then are wrong, and how many there are.
    """
    calls: list[Call] = []
    done: list[int] = []
    remote = create_directory(root)
    with exchanged(Recording(calls)):
        for step, _ in STEPS:
            step(remote)
            done.append(len(calls))
    remote.close()
    disk, chance = Disk(root, {}), random.Random(1)
    wrong = cuts = 0
    for number in range(len(calls) + 1):
        finished = sum(end <= number for end in done)
        allowed = states()[finished : finished + 2]
        for tree in disk.cuts(chance, 4):
            wrong += values(tree) not in allowed
            cuts += 1
        if number < len(calls):
            disk.make(calls[number], lost=lost)
    return wrong, cuts


def test_a_power_cut_loses_nothing_that_was_put(tmp_path: Path) -> None:
    """At any moment, whatever was not synced is lost: each step is done whole, or not at all."""
    wrong, cuts = wrong_after_cuts(tmp_path / "remote", lost=False)
    assert wrong == 0
    assert cuts > 500


def test_it_is_the_syncs_that_see_to_that(tmp_path: Path) -> None:
    """Without them many states would be wrong, so the test above can tell."""
    wrong, cuts = wrong_after_cuts(tmp_path / "remote", lost=True)
    assert wrong > cuts // 3
