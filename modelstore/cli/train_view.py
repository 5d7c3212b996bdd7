"""How a training looks: its plan and its samples as text, a line that lives while it runs."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import click

from modelstore.cli import output
from modelstore.names import printable
from modelstore.training.estimate import Estimate, Shown
from modelstore.training.gguf import quantisation
from modelstore.training.options import Step, TrainOptions
from modelstore.training.plan import Plan, plan_value
from modelstore.training.replay import Replayed
from modelstore.training.runs import RunInfo
from modelstore.training.settings import PRESET

_REDRAW = 0.1
"""Seconds between two states of a line that is rewritten."""

_PLAIN = 1.0
"""Seconds between two lines that stay."""

_BAR = (8, 30)
"""Columns that a bar takes at least and at most."""

_ROWS = 12
"""Lines that are shown of a sample's context, and of its answer."""

_SMOOTH = 0.1
"""Share of the newest step in the mean that the speed is told by."""


# --- the plan


def plan_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield what a plan says, as names and values."""
    yield "model", str(plan.model)
    yield "base", _base(plan)
    yield "data", _data(plan)
    if plan.data.evaluation:
        yield "eval", _evaluation(plan)
    yield "method", _method(plan.options)
    yield "rate", _rate(plan.options)
    if plan.preset:
        yield "preset", _preset(plan)
    if plan.estimate is not None:
        yield "samples", _samples(plan.estimate)
        yield "takes", _takes(plan.estimate)


def plan_data(plan: Plan) -> dict[str, object]:
    """Return what a plan says, for programs: as it is kept, but numbers are numbers."""
    data, estimate = plan.data, plan.estimate
    return {
        **plan_value(plan),
        "split": plan.split,
        "answers": len(data.rows),
        "evaluated": len(data.evaluation),
        "duplicates": data.duplicates,
        "shared": data.shared,
        "options": {**asdict(plan.options), "learning_rate": plan.options.rate},
        "estimate": {**asdict(estimate), "seconds": estimate.seconds} if estimate else {},
    }


def _base(plan: Plan) -> str:
    if plan.gguf is not None:
        named = "" if str(plan.gguf) == plan.base else " from Ollama"
        return f"{plan.base} ({quantisation(plan.gguf)}{named}, dequantised)"
    if plan.hub:
        return f"{plan.base} (to be downloaded: {plan.hub})"
    if plan.directory is not None and str(plan.directory) != plan.base:
        return f"{plan.base} ({output.place(plan.directory)})"
    return plan.base


def _data(plan: Plan) -> str:
    files = [
        f"{file.name} ({_count(file.rows, 'row')}, {output.size(file.size)})"
        for file in plan.data.files
    ]
    text = f"{', '.join(files)}: {_count(len(plan.data.rows), 'answer')}"
    twice = plan.data.duplicates
    return f"{text}, {_count(twice, 'duplicate')}" if twice else text


def _evaluation(plan: Plan) -> str:
    held = _count(len(plan.data.evaluation), "answer")
    names = ", ".join(file.name for file in plan.data.evaluation_files)
    text = f"{names}: {held}" if names else f"{held} set aside ({plan.split:.1%} of the rows)"
    shared = plan.data.shared
    return f"{text}, {shared:,} of them in the data too" if shared else text


def _method(options: TrainOptions) -> str:
    adapters = f", rank {options.lora_rank}, alpha {options.lora_alpha}" if options.adapts else ""
    limit = f", at most {_count(options.max_steps, 'step')}" if options.max_steps else ""
    batches = f"{options.batch_size} x {options.gradient_accumulation}"
    return (
        f"{options.method}{adapters}; {_count(options.epochs, 'epoch')}{limit}, batch {batches}, "
        f"device {options.device}"
    )


def _rate(options: TrainOptions) -> str:
    warmup = f", warmup {options.warmup:g}" if options.warmup else ""
    return f"{options.rate:g}{warmup}; max length {options.max_length}, seed {options.seed}"


def _preset(plan: Plan) -> str:
    by_source: dict[str, list[str]] = {}
    for name, source in plan.sources.items():
        by_source.setdefault(source, []).append(name)
    others = [f"{', '.join(n)} from the {s}" for s, n in by_source.items() if s != PRESET]
    return "; ".join([plan.preset, *others]).replace("the --set", "--set")


def _samples(estimate: Estimate) -> str:
    tokens = f"{_count(estimate.tokens, 'token')}, {estimate.learned:,} learned"
    parts = [f"{_count(estimate.samples, 'sample')}, {tokens}"]
    for what in ("truncated", "dropped"):
        count = getattr(estimate, what)
        parts += [f"{_count(count, 'row')} {what}"] if count else []
    return "; ".join(parts)


def _takes(estimate: Estimate) -> str:
    free = f", {output.size(estimate.available)} free" if estimate.available else ""
    memory = f"about {output.size(estimate.memory)} of memory{free}"
    each = estimate.seconds_per_step
    seconds = estimate.seconds
    if each is None or seconds is None:
        return f"{_count(estimate.steps, 'step')}, {memory}"
    return f"{_count(estimate.steps, 'step')} of {each:.2g} s: about {duration(seconds)}; {memory}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def duration(seconds: float) -> str:
    """Return a length of time for people: "45 s", "3:20", "2:05:00"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


# --- samples


def sample_lines(shown: Shown) -> Iterator[str]:
    """Yield a sample with a mark before each line: "|" for what is given, ">" for what is learned."""
    for mark, text, look in (
        ("|", shown.context, {"dim": True}),
        (">", shown.answer, {"fg": "green"}),
    ):
        rows = text.removesuffix("\n").split("\n") if text else []
        for row in rows[:_ROWS]:
            yield click.style(f"  {mark} {printable(row)}", **look)
        if len(rows) > _ROWS:
            yield click.style(f"  {mark} ({len(rows) - _ROWS} more lines)", **look)


# --- while it runs


class Line:
    """Shows where a run is: one line that is rewritten on a terminal, else lines that stay.

    Use as a context manager. Lines that stay come once a second at most.
    """

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._live = sys.stderr.isatty() and not silent
        self._shown_at = -_PLAIN
        self._ending = ""
        self._speed = Speed()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def step(self, step: Step) -> None:
        """Show one step of the training."""
        self._speed.take(step)
        last = step.number == step.total
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._rewrite(step_line(step, self._speed, width), stays=True)
        elif not self._silent and (last or step.evaluation is not None or self._is_time()):
            click.echo(f"step {step.number}/{step.total}  {told(step, self._speed)}", err=True)
            self._shown_at = time.monotonic()
        if last:
            self._end()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Show how far the bytes before or after the training are; a `Progress`."""
        if self._live and time.monotonic() - self._shown_at > _REDRAW:
            self._rewrite(f"{stage} {done / total:.0%}" if total else stage, stays=False)

    def _is_time(self) -> bool:
        return time.monotonic() - self._shown_at >= _PLAIN

    def _rewrite(self, text: str, *, stays: bool) -> None:
        click.echo(f"\r\x1b[K{text}", err=True, nl=False)
        self._shown_at = time.monotonic()
        self._ending = "\n" if stays else "\r\x1b[K"

    def _end(self) -> None:
        """Put the cursor where the next line begins; only a step stays to be read."""
        click.echo(self._ending, err=True, nl=False)
        self._ending = ""


class Speed:
    """How fast a run is: the mean of its steps, in which new ones weigh more.

    Attributes:
        evaluation: the last mean loss on the evaluation rows, or None.
    """

    def __init__(self) -> None:
        self.evaluation: float | None = None
        self._before: Step | None = None
        self._seconds = 0.0
        self._tokens = 0.0

    def take(self, step: Step) -> None:
        """Take the next step."""
        before = self._before
        if before is None:  # a run that goes on has steps behind it
            self._seconds = step.seconds / step.number
            self._tokens = step.tokens / step.number
        else:
            self._seconds += _SMOOTH * (step.seconds - before.seconds - self._seconds)
            self._tokens += _SMOOTH * (step.tokens - before.tokens - self._tokens)
        self._before = step
        self.evaluation = self.evaluation if step.evaluation is None else step.evaluation

    @property
    def tokens_per_second(self) -> float:
        """Tokens that the model is shown in a second."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def left(self, step: Step) -> float:
        """Return the seconds until the last step."""
        return self._seconds * (step.total - step.number)


def told(step: Step, speed: Speed) -> str:
    """Return loss, evaluation loss, speed and time left."""
    evaluation = "" if speed.evaluation is None else f"eval {speed.evaluation:.4f}  "
    return (
        f"loss {step.loss:.4f}  {evaluation}{speed.tokens_per_second:,.0f} tok/s  "
        f"{duration(speed.left(step))} left"
    )


def step_line(step: Step, speed: Speed, width: int) -> str:
    """Return a line of at most ``width`` columns, with a bar where there is room for one."""
    share = step.number / max(1, step.total)
    text = f"{step.number}/{step.total}  {told(step, speed)}"
    room = min(width - len(text) - 2, _BAR[1])
    if room >= _BAR[0]:
        full = round(share * room)
        done, rest = "━─" if "utf" in (sys.stderr.encoding or "").lower() else "#-"
        return f"{done * full}{rest * (room - full)}  {text}"
    return text[:width]


def presets_table(values: Mapping[str, Mapping[str, object]]) -> list[list[str]]:
    """Return presets side by side, a setting a row."""
    names = list(dict.fromkeys(name for settings in values.values() for name in settings))
    head = ["", *values]
    rows = [[name, *(_said(settings.get(name)) for settings in values.values())] for name in names]
    return [head, *rows]


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def runs_table(runs: Sequence[RunInfo]) -> list[list[str]]:
    """Return runs one a row, below a head."""
    head = ["run", "model", "state", "started", "step", "size", "base"]
    return [head, *(_run_row(run) for run in runs)]


def _run_row(run: RunInfo) -> list[str]:
    started = output.ago(run.started_at) if run.started_at else "-"
    step = str(run.step or "-")
    return [run.id, run.model or "-", run.state, started, step, output.size(run.size), run.base]


# --- a replay


def replay_data(made: Replayed) -> dict[str, object]:
    """Return what came of a replay, for programs."""
    return {
        "ref": str(made.version),
        "equal": made.equal,
        "tensors": made.tensors,
        "different": list(made.different),
        "environment": {name: {"was": a, "now": b} for name, (a, b) in made.environment.items()},
        "metrics": dict(made.result.metrics),
    }


def replay_lines(made: Replayed) -> Iterator[str]:
    """Yield what came of a replay, for people."""
    if made.equal:
        yield f"{made.version}  equal, bit for bit, in all {_count(made.tensors, 'tensor')}"
    else:
        count = len(made.different)
        yield f"{made.version}  differs in {count:,} of {_count(made.tensors, 'tensor')}"
        for name in made.different[:_ROWS]:
            yield f"  {name}"
        if count > _ROWS:
            yield f"  ({count - _ROWS} more)"
    for name, (before, now) in made.environment.items():
        yield f"  {name} was {before or 'not there'}, and is {now or 'not there'}"
