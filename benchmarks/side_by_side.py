"""Claim: smaller than anything published, and not slower than stores of whole files.

Each peer stores each version of a history, one fresh process per command, and gives the last and
the first back, which are compared byte for byte. Rounds are interleaved, so what slows the machine
down for a while slows everybody; times are medians. `sync` comes before every timed step.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import measure
from delta_peers import Mstore
from measure import Cost
from parts import count_values
from peers import Peer
from weights import History, raw_size

_PIECE = 1 << 20


@dataclass(slots=True)
class Trial:
    """What one peer did with one history.

    Attributes:
        peer: its name.
        release: "" where it is not installed.
        stored: bytes of the store after each version.
        commits: per version, its cost in each round.
        last, first: what it cost to check these versions out, in each round.
        repacks: what repacking cost, in each round.
        exact: whether every file that came back was the one that went in.
        failed: the error that ended it, or "".
    """

    peer: str
    release: str
    stored: list[int] = field(default_factory=list)
    commits: list[list[Cost]] = field(default_factory=list)
    last: list[Cost] = field(default_factory=list)
    first: list[Cost] = field(default_factory=list)
    repacks: list[Cost] = field(default_factory=list)
    exact: bool = True
    failed: str = ""

    @property
    def done(self) -> bool:
        """Whether its turn is over."""
        return not self.release or bool(self.failed) or bool(self.last)

    @property
    def works(self) -> bool:
        """Whether there is anything to report."""
        return bool(self.release) and not self.failed and bool(self.last)

    def increments(self) -> list[int]:
        """Return by how many bytes each version but the first made the store grow."""
        return [b - a for a, b in zip(self.stored, self.stored[1:], strict=False)]

    def later(self) -> list[Cost]:
        """Return what the commits of all versions but the first cost."""
        return [cost for version in self.commits[1:] for cost in version] or self.commits[0]

    def peak(self) -> int:
        """Return the most memory that any command took."""
        costs = [*self.last, *self.first, *self.repacks]
        costs += [cost for version in self.commits for cost in version]
        return max(cost.peak for cost in costs)


def run(
    work: Path, history: History, peers: Sequence[Peer], rounds: int, *, label: str = ""
) -> list[Trial]:
    """Return what the peers did; the results so far are kept in a file after every step.

    Args:
        work: where stores are made and results kept.
        history: what is stored.
        peers: what is measured.
        rounds: how often.
        label: names the file of the results; "" takes the history's name.
    """
    trials = [Trial(peer.name, peer.version()) for peer in peers]
    for _ in range(rounds):
        for peer, trial in zip(peers, trials, strict=True):
            if trial.release and not trial.failed:
                root = work / "side_by_side"
                shutil.rmtree(root, ignore_errors=True)
                root.mkdir(parents=True)
                try:
                    _round(peer, history, root, trial)
                except (measure.FailedError, OSError) as error:
                    trial.failed = str(error)
                shutil.rmtree(root)
                save(results_file(work, label or history.name), trials)
    return trials


def _round(peer: Peer, history: History, root: Path, trial: Trial) -> None:
    """Store all versions, and check the last and the first out."""
    (root / "peer").mkdir()
    peer.create(root / "peer")
    stored = []
    for number, version in enumerate(history.versions):
        measure.settle()
        parent = history.versions[number - 1] if number else None
        cost = peer.commit(version, parent)
        if len(trial.commits) == number:
            trial.commits.append([])
        trial.commits[number].append(cost)
        stored.append(peer.stored())
    repacked = peer.finish() if isinstance(peer, Mstore) else None
    if repacked:
        trial.repacks.append(repacked)
        stored[-1] = peer.stored()
    trial.stored = stored
    for version, costs in ((history.versions[-1], trial.last), (history.versions[0], trial.first)):
        target = root / version.name
        target.mkdir()
        measure.settle()
        costs.append(peer.checkout(version.name, target))
        trial.exact &= same_files(version, peer.found(target))
        shutil.rmtree(target, ignore_errors=True)


def same_files(wanted: Path, found: Path) -> bool:
    """Tell whether two directories hold the same files, by their SHA-256."""
    names = _file_names(wanted)
    if names != _file_names(found):
        return False
    return all(sha256(wanted / name) == sha256(found / name) for name in names)


def _file_names(directory: Path) -> list[Path]:
    paths = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return sorted(paths)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in little memory."""
    taken = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_PIECE):
            taken.update(data)
    return taken.hexdigest()


# --- results on disk


def results_file(work: Path, name: str) -> Path:
    """Return where the results of a history are kept."""
    return work / "results" / f"peers-{name}.json"


def save(path: Path, trials: Iterable[Trial]) -> None:
    """Write the results so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(trial) for trial in trials], indent=1))


def load(path: Path) -> list[Trial]:
    """Return the results of an earlier run; none where there are none."""
    if not path.exists():
        return []
    return [_trial(values) for values in json.loads(path.read_text())]


def _trial(values: dict[str, Any]) -> Trial:
    values["commits"] = [[Cost(**cost) for cost in costs] for costs in values["commits"]]
    for name in ("last", "first", "repacks"):
        values[name] = [Cost(**cost) for cost in values[name]]
    return Trial(**values)


# --- tables


def sizes(history: History, trials: Sequence[Trial]) -> str:
    """Return the table of what is stored."""
    raw = [raw_size(version) for version in history.versions]
    values = count_values(history.versions[-1])
    shown = _shown(len(raw))
    rows = []
    for trial in trials:
        if not trial.works:
            rows.append((trial.peer, *[""] * len(shown), reason(trial), "", ""))
            continue
        cells = [f"{trial.stored[number] / 1e6:,.1f}" for number in shown]
        later = sum(trial.increments()) * 8 / max(1, len(raw) - 1)
        bits = f"{later / values:.2f}" if values else ""
        share = f"{100 * trial.stored[-1] / sum(raw):.1f} %"
        rows.append((trial.peer, *cells, share, bits, "yes" if trial.exact else "**no**"))
    names = [f"{history.versions[number].name}, MB" for number in shown]
    head = ("store after", *names, "of copies", "bits/weight, later versions", "exact")
    return measure.table(head, rows)


def _shown(count: int) -> list[int]:
    """Return which versions get a column: few."""
    return list(range(count)) if count <= 6 else [0, 1, count // 2, count - 1]


def speeds(history: History, trials: Sequence[Trial]) -> str:
    """Return the table of what commands cost."""
    size = raw_size(history.versions[-1])
    head = (
        "",
        "commit first, MB/s",
        "commit later, MB/s",
        "CPU s/GB",
        "checkout last, MB/s",
        "first, MB/s",
        "CPU s/GB, last",
        "peak memory, MB",
    )
    rows = [_speed(trial, size) for trial in trials if trial.works]
    return measure.table(head, rows)


def _speed(trial: Trial, size: int) -> tuple[str, ...]:
    later = trial.later()
    return (
        trial.peer,
        f"{size / 1e6 / wall(trial.commits[0]):.0f}",
        f"{size / 1e6 / wall(later):.0f}",
        f"{cpu(later) / size * 1e9:.1f}",
        f"{size / 1e6 / wall(trial.last):.0f}",
        f"{size / 1e6 / wall(trial.first):.0f}",
        f"{cpu(trial.last) / size * 1e9:.1f}",
        f"{trial.peak() / 1e6:.0f}",
    )


def wall(costs: Iterable[Cost]) -> float:
    """Return the median of the wall seconds."""
    return statistics.median(cost.wall for cost in costs)


def cpu(costs: Iterable[Cost]) -> float:
    """Return the median of the CPU seconds."""
    return statistics.median(cost.cpu for cost in costs)


def reason(trial: Trial) -> str:
    """Return why there is no figure."""
    if not trial.release:
        return "no such command" if "mstore" in trial.peer else "not installed"
    if not trial.failed:
        return "not run"
    said = trial.failed.splitlines()  # the command, its exit code, and what it printed
    return f"failed: {said[min(2, len(said) - 1)][:80]}"
