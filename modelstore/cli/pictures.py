"""Charts as files: what ``--svg`` writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelstore import disk
from modelstore.cli import output
from modelstore.cli.common import Function
from modelstore.errors import UsageError

if TYPE_CHECKING:
    from modelstore.charts import Chart

_STDOUT = Path("-")


def option(what: str) -> Callable[[Function], Function]:
    """Return the option ``--svg FILE`` of a command.

    Args:
        what: is drawn, after "draw".
    """
    return click.option(
        "--svg",
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE",
        help=f"Draw {what} into FILE; - is standard output.",
    )


def check(path: Path | None, *, json: bool) -> None:
    """Raise unless a chart can go to ``path``, before anything is computed for it.

    Raises:
        UsageError: it is a directory, lies in none, or is where the JSON goes.
    """
    if path is None:
        return
    if path == _STDOUT:
        if json:
            raise UsageError("--svg - and --json both print", "name a file: --svg chart.svg")
        return
    if path.is_dir():
        raise UsageError(f"'{path}' is a directory", f"name a file: --svg {path / 'chart.svg'}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no directory '{path.parent}'", f"run: mkdir -p {path.parent}")


def write(chart: Chart, path: Path) -> None:
    """Write a chart, and say where it is."""
    if path == _STDOUT:
        click.echo(chart.document(), nl=False)
        return
    disk.replace(path.absolute(), chart.document())
    output.hint(f"drawn: {output.place(path)}")
