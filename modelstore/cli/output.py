"""How results look: tables and sizes for people, one envelope of JSON for programs.

Data goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from modelstore.cli.settings import Settings
from modelstore.names import printable
from modelstore.progress import Progress, listening, silent
from modelstore.sizes import human_size
from modelstore.state import State

_PATIENCE = 1.0
"""Seconds of work before a progress bar is worth its place."""


def emit(schema: str, data: object) -> None:
    """Print the envelope ``{"schema": "mstore/<schema>/1", "data": ...}``.

    Indented for people, on one line for programs, for which that takes a third of the time.
    """
    value = {"schema": f"mstore/{schema}/1", "data": data}
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def say(text: str) -> None:
    """Print a line of the result."""
    click.echo(printable(text))


def say_text(text: str) -> None:
    """Print text of many lines, which may be anybody's; its line breaks and tabs stay."""
    lines = ("\t".join(map(printable, row.split("\t"))) for row in text.split("\n"))
    click.echo("\n".join(lines), nl=False)


def hint(text: str) -> None:
    """Print a remark that is not part of the result."""
    click.echo(click.style(printable(text), dim=True), err=True)


def warn(text: str) -> None:
    """Print a warning."""
    click.echo(f"{click.style('Warning', fg='yellow')}: {printable(text)}", err=True)


def notices(states: Sequence[State]) -> None:
    """Print what the registries that were read have to say about their files."""
    for state in states:
        if state.notice:
            warn(state.notice)


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows in columns two spaces apart.

    Args:
        right: the columns that are flush right.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if n in right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def pairs(rows: Mapping[str, str], indent: str = "") -> None:
    """Print names and values in two columns; values that are "" are left out."""
    shown = {name: value for name, value in rows.items() if value}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        first, *others = value.splitlines() or [""]
        click.echo(f"{indent}{printable(name).ljust(width)}  {printable(first)}")
        for other in others:
            click.echo(f"{indent}{' ' * width}  {printable(other)}")


def place(path: Path) -> str:
    """Return a path for people: from the current directory, where it lies below that."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def size(value: object) -> str:
    """Return a number of bytes for people, "-" for none."""
    return human_size(value) if isinstance(value, int) else "-"


def number(value: object) -> str:
    """Return a parameter or metric for people."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def count(number: int, thing: str) -> str:
    """Return a number of things: "1 file", "2 files"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def ago(moment: str) -> str:
    """Return how long ago an RFC 3339 time was, roughly."""
    try:
        then = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        return moment
    if then.tzinfo is None:
        then = then.replace(tzinfo=timezone.utc)
    seconds = (datetime.now(tz=timezone.utc) - then).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        units = int(seconds // length)
        if units >= 1:
            return f"{count(units, unit)} ago"
    return "just now" if seconds >= 0 else moment


@contextmanager
def progress(chosen: Settings) -> Iterator[Progress]:
    """Give a `Progress` that draws a bar on a terminal once the work takes over a second.

    Remarks, too, are printed there only.
    """
    if chosen.json or chosen.quiet or not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )
    from rich.text import Text

    bars = Bars(
        TextColumn("{task.description:>8}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    stages: dict[str, Any] = {}
    began = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        if not stages and time.monotonic() - began < _PATIENCE:
            return
        if stage not in stages:
            bars.start()
            stages[stage] = bars.add_task(stage, total=total)
        bars.update(stages[stage], completed=done, total=total)

    try:
        with listening(lambda text: bars.console.print(Text(printable(text), "dim"))):
            yield report
    finally:
        bars.stop()
