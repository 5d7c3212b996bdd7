"""The measurements of a run, in `metrics.jsonl`: a line per optimizer step, the last may be torn.

A line is durable a second after its step, and before a checkpoint that comes after it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.canonical import line, parse_mapping
from modelstore.errors import IntegrityError
from modelstore.training.losses import Past
from modelstore.training.options import Step

_EVERY = 1.0
"""Seconds between two writes."""


class Metrics:
    """Writes the measurements of a run.

    Args:
        path: of the file, which may exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[str] = []
        self._written_at = 0.0

    def take(self, step: Step) -> None:
        """Take a step."""
        self._add(value_of(step))

    def base(self, loss: float) -> None:
        """Take the base's loss on the evaluation rows."""
        self._add({"step": 0, "evaluation": loss})

    def _add(self, value: Mapping[str, object]) -> None:
        self._waiting.append(line(value) + "\n")
        if time.monotonic() - self._written_at >= _EVERY:
            self.flush()

    def flush(self) -> None:
        """Make everything that was taken durable."""
        if self._waiting:
            disk.append(self._path, "".join(self._waiting).encode("ascii"))
        self._waiting = []
        self._written_at = time.monotonic()


def value_of(step: Step) -> dict[str, int | float]:
    """Return a step as a line of the file has it."""
    value: dict[str, int | float] = {
        "step": step.number,
        "of": step.total,
        "loss": step.loss,
        "tokens": step.tokens,
        "seconds": round(step.seconds, 3),
        "rate": step.rate,
    }
    return value if step.evaluation is None else {**value, "evaluation": step.evaluation}


def step_of(value: Mapping[str, Any]) -> Step:
    """Return the step that a line of the file holds."""
    return Step(
        number=int(value["step"]),
        total=int(value["of"]),
        loss=float(value["loss"]),
        tokens=int(value["tokens"]),
        seconds=float(value["seconds"]),
        evaluation=float(value["evaluation"]) if "evaluation" in value else None,
        rate=float(value["rate"]),
    )


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of the file that are whole; none where there is no file."""
    data = b""
    if path.is_file():
        with disk.explained(path, "read"):
            data = path.read_bytes()
    for row in data.splitlines(keepends=True):
        if not row.endswith(b"\n"):
            return
        try:
            yield parse_mapping(row, f"a line of '{path.name}'")
        except IntegrityError:
            return  # a power cut may leave anything at the end


def go_back(path: Path, step: int, cpu: float) -> Past:
    """Forget what was measured after ``step``, and return the rest.

    Args:
        cpu: seconds of computing up to then.
    """
    rows = [row for row in read(path) if int(row.get("step", 0)) <= step]
    disk.replace(path, "".join(line(row) + "\n" for row in rows).encode("ascii"))
    before = [float(row["evaluation"]) for row in rows if row.get("step") == 0]
    steps = {int(row["step"]): step_of(row) for row in rows if row.get("step") != 0}
    ordered = tuple(steps[number] for number in sorted(steps))
    return Past(ordered, before[-1] if before else None, cpu)
