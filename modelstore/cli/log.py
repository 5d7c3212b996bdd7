"""``mstore log``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from modelstore.cli import common, complete, output, pictures
from modelstore.names import printable
from modelstore.ops.graph import graph
from modelstore.ops.history import History
from modelstore.ops.history import log as read


@click.command()
@click.argument("ref", required=False, default="", shell_complete=complete.refs)
@click.option(
    "-n", "limit", type=click.IntRange(min=1), metavar="N", help="Only the N newest in all."
)
@click.option("--oneline", is_flag=True, help="One line per version.")
@click.option("--graph", "draw", is_flag=True, help="Draw which version descends from which.")
@pictures.option("metrics across versions, and what each cost,")
@common.store_options
@common.json_option
@click.pass_context
def log(
    ctx: click.Context, ref: str, limit: int | None, oneline: bool, draw: bool, svg: Path | None
) -> None:
    """Show the history, newest first.

    With REF, that version and what it descends from; without, one model after the other.
    """
    chosen = common.settings(ctx)
    pictures.check(svg, json=chosen.json)
    histories = read(chosen.open(), ref, limit=limit, context=chosen.context())
    if svg is not None:
        from modelstore.ops.history_chart import history_chart  # not for those who only read

        pictures.write(history_chart(histories), svg)
    if chosen.json:
        rows = [h.description.row(entry) for h in histories for entry in h.entries]
        output.emit("log", rows)
    elif svg is None:
        _show(histories, oneline=oneline, draw=draw)


def _show(histories: list[History], *, oneline: bool, draw: bool) -> None:
    output.notices([history.state for history in histories])
    shown = [history for history in histories if history.entries]
    for number, history in enumerate(shown):
        if oneline or draw:
            _short(history, draw)
            continue
        if number:
            output.say("")
        _long(history)
    if not shown:
        output.hint("no versions yet; next: mstore commit DIR -M MODEL -m MESSAGE")


def _short(history: History, draw: bool) -> None:
    lanes = graph(history.entries) if draw else ()
    for number, entry in enumerate(history.entries):
        row = history.description.row(entry)
        digest = (row["id"] or "missing")[:12]
        subject = next(iter(row["message"].splitlines()), "")
        lane = f"{lanes[number].prefix} " if draw else ""
        output.say(f"{lane}{digest.ljust(12)} {row['ref']}{_marks(row)} {subject}".rstrip())
        for join in lanes[number].joins if draw else ():
            output.say(join)


def _long(history: History) -> None:
    for number, entry in enumerate(history.entries):
        row = history.description.row(entry)
        if number:
            output.say("")
        heading = click.style(f"version {row['ref']}", fg="yellow")
        click.echo(heading + click.style(printable(_marks(row)), fg="cyan"))
        metrics = {k: v for k, v in row["metrics"].items() if k != "model_size"}
        output.pairs(
            {
                "id": row["id"] or "missing: its files are not here",
                "parent": ", ".join(row["parents"]),
                "date": _date(row["created_at"]),
                "size": _size(row["sizes"]),
                "metrics": _inline(metrics),
                "params": _inline(row["training_parameters"]),
                "notes": row["notes"],
            },
            indent="  ",
        )
        lines = row["message"].splitlines()
        for line in ["", *lines] if lines else []:
            output.say(f"    {line}".rstrip())


def _marks(row: dict[str, Any]) -> str:
    """Return what names a version besides its number, as in " (ACTIVE, prod)"."""
    marks = [*(["ACTIVE"] if row["active"] else []), *row["aliases"]]
    return f" ({', '.join(marks)})" if marks else ""


def _date(moment: str) -> str:
    """Return when, and how long ago that is; "" for a version that does not say."""
    return f"{moment} ({output.ago(moment)})" if moment else ""


def _size(sizes: dict[str, object]) -> str:
    if not sizes:
        return ""
    return (
        f"{output.size(sizes.get('logical'))}, {output.size(sizes.get('stored'))} new in the store"
    )


def _inline(values: dict[str, object]) -> str:
    return ", ".join(f"{key} {output.number(value)}" for key, value in values.items())
