"""Every target that was set for the codec, with what was measured.

Results of `side_by_side`, `timing` and `coder` are used again unless the sources of mstore are newer.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import environment
import measure
import side_by_side
import timing
from coder import Coded, coded
from delta_peers import BitX, Mstore
from freshness import is_fresh
from parts import cut
from side_by_side import Trial
from weights import Histories, History, raw_size

OURS, BITX = Mstore().name, BitX("bytes").name
REPACKED = Mstore(repacked=True).name
ADAPTED = Mstore(adapter=Path()).name

GB = 1e9
WHOLE = ("git-lfs", "DVC", "restic", "borg, zstd,3")
"""The peers that keep whole files, or chunks of them."""

SLOW_DISK = 200e6
"""Bytes a second below which copies are limited by the disk."""


@dataclass(frozen=True, slots=True)
class Line:
    """One target.

    Attributes:
        what: of what.
        goal: the figure to reach.
        measured: None where it could not be measured.
        note: the unit, or why there is no figure.
        at_least: whether more is better.
    """

    what: str
    goal: float
    measured: float | None
    note: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        if self.measured is None:
            return False
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal

    def row(self) -> tuple[str, ...]:
        """Return the line as cells of a table."""
        sign = ">=" if self.at_least else "<="
        if self.measured is None:
            return self.what, f"{sign} {self.goal:g}", "", f"not measured: {self.note}"
        verdict = "yes" if self.met else "**no**"
        note = f" {self.note}" if self.note else ""
        return self.what, f"{sign} {self.goal:g}", f"{self.measured:.4g}{note}", verdict


class Targets:
    """Measures what the targets are about.

    Args:
        work: where stores are made and results kept.
        histories: what is measured on.
        rounds: of everything that is timed.
    """

    def __init__(self, work: Path, histories: Histories, rounds: int) -> None:
        self._work = work
        self._histories = histories
        self._rounds = rounds
        self._trials: dict[str, list[Trial]] = {}
        self._coded: list[Coded] = []

    def report(self) -> str:
        """Return the table; each part of it is printed as soon as it is known."""
        parts: tuple[Callable[[], Iterator[Line]], ...] = (
            self.increments,
            self.adapters,
            self.alone,
            self.wide,
            self.chain,
            self.coder,
            self.commands,
            self.walls,
        )
        lines = []
        for part in parts:
            for line in _tolerantly(part):
                lines.append(line)
                print("...", " | ".join(line.row()), file=sys.stderr, flush=True)
        missed = sum(not line.met for line in lines)
        rows = [line.row() for line in lines]
        summary = f"{len(lines) - missed} of {len(lines)} targets are reached."
        return f"{summary}\n\n{measure.table(('', 'target', 'measured', 'reached'), rows)}"

    # --- sizes

    def increments(self) -> Iterator[Line]:
        """Yield what fine-tunes cost beside BitX."""
        yield self._ratio("full fine-tunes in a row / BitX", 0.42, "full", OURS)
        yield self._ratio("heavy fine-tune / BitX", 0.63, "heavy", OURS)
        yield self._ratio("merged LoRA, at commit / BitX", 0.50, "lora", OURS)
        yield self._ratio("merged LoRA, 576 wide, repacked / BitX", 0.38, "lora", REPACKED)
        yield self._ratio("merged LoRA, 2048 wide, repacked / BitX", 0.25, "lora2048", REPACKED)

    def adapters(self) -> Iterator[Line]:
        """Yield what a merged LoRA costs whose adapter is given."""
        for name in ("lora", "lora2048"):
            history = self._histories.named(name)
            trials = self.trials(history)
            given, unknown = _increment(trials, ADAPTED), _increment(trials, OURS)
            what = f"{name}: adapter given, beyond the adapter's own blobs, of raw"
            if given is None or unknown is None or history.adapter is None:
                yield Line(what, 0.02, None, _why(trials, ADAPTED))
                continue
            own = self._stored_alone(history.adapter)
            yield Line(what, 0.02, max(0, given - own) / raw_size(history.versions[-1]))
            yield Line(f"{name}: adapter given / not given", 1.0, given / unknown)

    def alone(self) -> Iterator[Line]:
        """Yield what a bf16 model costs that has no base."""
        version = self._histories.named("full").versions[1]
        path = version / "model.safetensors"
        stored = self._stored_alone(path)
        yield Line("standalone bf16, of raw", 0.667, stored / path.stat().st_size)
        best = self._best("bf16 alone")
        if best:
            bound = best.bound * best.values / 8
            yield Line("standalone bf16 / entropy of exponents + 8 bits", 1.005, stored / bound)

    def wide(self) -> Iterator[Line]:
        """Yield what fp32 fine-tunes cost."""
        yield self._share("fp32 fine-tune of an fp32 base, of raw", 0.50, "fp32")
        yield self._share("fp32 fine-tune of a bf16 base, of raw", 0.53, "fp32_of_bf16")

    def chain(self) -> Iterator[Line]:
        """Yield what a long chain costs."""
        yield self._ratio("twenty in a row, mean increment / BitX", 0.50, "chain20", OURS)
        history = self._histories.named("chain20")
        ours = _named(self.trials(history), OURS)
        if ours:
            little, size = self._start_up(history)
            cpu = side_by_side.cpu(ours.last) - little
            rest = raw_size(history.versions[-1]) - size
            what = "twenty in a row, checkout of the last, less start-up"
            yield Line(what, 7.0, cpu / rest * GB, "CPU s/GB")

    def trials(self, history: History) -> list[Trial]:
        """Return what the peers that targets compare with did, measured after the last change."""
        if history.name not in self._trials:
            self._trials[history.name] = self._tried(history)
        return self._trials[history.name]

    def _tried(self, history: History) -> list[Trial]:
        wanted = environment.by_size(history)
        names = {peer.name for peer in wanted}
        for label in (history.name, f"targets-{history.name}"):
            path = side_by_side.results_file(self._work, label)
            found = side_by_side.load(path) if is_fresh(path) else []
            if names <= {trial.peer for trial in found if trial.done}:
                return found
        label = f"targets-{history.name}"
        return side_by_side.run(self._work, history, wanted, 1, label=label)

    def _ratio(self, what: str, goal: float, name: str, ours: str) -> Line:
        trials = self.trials(self._histories.named(name))
        mine, theirs = _increment(trials, ours), _increment(trials, BITX)
        if mine is None or theirs is None:
            return Line(what, goal, None, _why(trials, ours))
        return Line(what, goal, mine / theirs)

    def _share(self, what: str, goal: float, name: str) -> Line:
        history = self._histories.named(name)
        trials = self.trials(history)
        mine = _increment(trials, OURS)
        if mine is None:
            return Line(what, goal, None, _why(trials, OURS))
        return Line(what, goal, mine / raw_size(history.versions[-1]))

    def _stored_alone(self, path: Path) -> int:
        """Return the bytes by which a new store grows when ``path`` is committed to it."""
        store = self._new_store()
        before = measure.disk_usage(store)
        measure.mstore(store, "commit", path, "-M", "line", "-m", "alone")
        return measure.disk_usage(store) - before

    def _new_store(self) -> Path:
        store = self._work / "targets" / "store"
        shutil.rmtree(store.parent, ignore_errors=True)
        measure.run(*measure.MSTORE, "init", store)
        return store

    def _start_up(self, history: History) -> tuple[float, int]:
        """Return the CPU seconds and bytes of a checkout that is little but start-up.

        It is of two tensors of a fine-tune, so that the kernels are loaded as well.
        """
        store = self._new_store()
        for version in history.versions[:2]:
            content = store.parent / version.name
            content.mkdir()
            cut(version / "model.safetensors", content / "model.safetensors", 2)
            measure.mstore(store, "commit", content, "-M", "line", "-m", "cut")
        out = store.parent / "out"
        cost = measure.mstore(store, "checkout", f"line@{history.versions[1].name}", "-o", out)
        return cost.cpu, raw_size(out)

    # --- speeds

    def coder(self) -> Iterator[Line]:
        """Yield how fast the coder alone is."""
        what = {"bf16, full fine-tune": ("deltas", 0.6, 0.8), "bf16 alone": ("alone", 1.0, 1.5)}
        for case, (name, encode, decode) in what.items():
            best = self._best(case)
            if best is None:
                yield Line(f"coder, {name}", encode, None, "nothing was coded", at_least=True)
                continue
            note = f"GB/s ({best.codec})"
            speeds = best.encode_speed, best.decode_speed
            yield Line(f"coder, {name}, encode", encode, speeds[0], note, at_least=True)
            yield Line(f"coder, {name}, decode", decode, speeds[1], note, at_least=True)

    def _best(self, case: str) -> Coded | None:
        """Return what the codec did that stores the case in the fewest bytes."""
        self._coded = self._coded or coded(self._work, self._histories)
        found = [result for result in self._coded if result.what == case]
        return min(found, key=lambda result: result.stored, default=None)

    def commands(self) -> Iterator[Line]:
        """Yield what commands on a gigabyte cost, in large tensors and in many small ones."""
        stacked, big = self._timing("stacked"), self._timing("big")
        for taken, tensors in ((stacked, "large tensors"), (big, "small tensors")):
            first, second, *_, last = taken.depths
            goals = {
                timing.changed(second): (6.0, "commit of a changed version"),
                timing.changed(last): (6.0, "the same, its base at depth 3"),
                timing.FIRST: (4.2, "standalone commit"),
                f"checkout {second}": (3.5, f"checkout at depth {taken.depths[second]}"),
                f"checkout {first}": (2.3, "standalone checkout"),
                f"checkout {last}": (7.0, f"checkout at depth {taken.depths[last]}"),
            }
            for what, (goal, title) in goals.items():
                yield Line(f"{title}, {tensors}", goal, taken.cpu_per_gb(what), "CPU s/GB")
            ratio = taken.wall(timing.UNCHANGED) / taken.wall(timing.HASH)
            what = "commit of an unchanged version / SHA-256 of its files, wall"
            yield Line(f"{what}, {tensors}", 1.2, ratio)
        peak = max(stacked.peak(), big.peak())
        yield Line("peak memory of commit and checkout", 1.0, peak / GB, "GB")
        yield Line("first compilation of all kernels", 10, big.compilation, "s")

    def _timing(self, name: str) -> timing.Timing:
        path = self._work / "results" / f"timing-{name}.json"
        if not is_fresh(path):
            history, warm = self._histories.named(name), self._histories.named("chain20")
            timing.save(path, timing.run(self._work, history, warm, self._rounds))
        return timing.load(path)

    def walls(self) -> Iterator[Line]:
        """Yield wall times beside those of peers, if these were measured on the large model."""
        path = side_by_side.results_file(self._work, "big")
        trials = side_by_side.load(path)
        ours, copies = _named(trials, OURS), _named(trials, "cp + sync")
        if ours is None or copies is None or not is_fresh(path):
            command = "run.py peers --history big"
            yield Line("wall of a commit / that of whole-file peers", 1.0, None, command)
            return
        commit = side_by_side.wall(ours.later())
        for name in WHOLE:
            peer = _named(trials, name)
            what = f"wall of a changed commit / {name}"
            if peer is None:
                yield Line(what, 1.0, None, _why(trials, name))
            else:
                yield Line(what, 1.0, commit / side_by_side.wall(peer.later()))
        size = raw_size(self._histories.named("big").versions[-1])
        copy = side_by_side.wall(copies.later())
        if size / copy < SLOW_DISK:
            yield Line("wall of a changed commit / cp + sync", 1.0, commit / copy)
            out = side_by_side.wall(ours.last) / side_by_side.wall(copies.last)
            yield Line("wall of a checkout / cp + sync", 1.5, out)


def _tolerantly(part: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """Yield the lines of a part; a command that fails becomes a line that was not measured."""
    try:
        yield from part()
    except measure.FailedError as error:
        said = str(error).splitlines()
        yield Line(f"({part.__name__})", 0, None, said[min(2, len(said) - 1)])


def _named(trials: Sequence[Trial], name: str) -> Trial | None:
    """Return the trial of a peer, None where it gave nothing."""
    return next((trial for trial in trials if trial.peer == name and trial.works), None)


def _increment(trials: Sequence[Trial], name: str) -> float | None:
    """Return the mean of the bytes that a later version added."""
    trial = _named(trials, name)
    if trial is None:
        return None
    grown = trial.increments()
    return sum(grown) / len(grown)


def _why(trials: Sequence[Trial], name: str) -> str:
    found = [side_by_side.reason(trial) for trial in trials if trial.peer == name]
    return found[0] if found else f"{name} was not run"
