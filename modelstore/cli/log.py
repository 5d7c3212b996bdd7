"""``mstore log``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.ops.history import History, graph
from modelstore.ops.history import log as read


@click.command()
@click.argument("ref", required=False, default="", shell_complete=complete.refs)
@click.option("-n", "limit", type=click.IntRange(min=1), metavar="N", help="At most N versions.")
@click.option("--oneline", is_flag=True, help="One line per version.")
@click.option("--graph", "draw", is_flag=True, help="Draw which version descends from which.")
@common.store_options
@common.json_option
@click.pass_context
def log(ctx: click.Context, ref: str, limit: int | None, oneline: bool, draw: bool) -> None:
    """Show the history, newest first.

    With REF, that version and what it descends from; without, every version of every model.
    """
    chosen = common.settings(ctx)
    histories = read(chosen.open(), ref, limit=limit, context=chosen.context())
    if chosen.json:
        rows = [h.description.row(entry) for h in histories for entry in h.entries]
        output.emit("log", rows)
        return
    output.notices([history.state for history in histories])
    for history in histories:
        _show(history, oneline or draw, draw)
    if not any(history.total for history in histories):
        output.hint("no versions yet; next: mstore commit DIR -M MODEL -m MESSAGE")


def _show(history: History, oneline: bool, draw: bool) -> None:
    describe = history.description.row
    lanes = graph(history.entries) if draw else [""] * len(history.entries)
    for lane, entry in zip(lanes, history.entries, strict=True):
        row = describe(entry)
        marks = [*(["ACTIVE"] if row["active"] else []), *row["aliases"]]
        shown = f" ({', '.join(marks)})" if marks else ""
        digest = (row["id"] or "missing")[:12]
        first = row["message"].splitlines()[0] if row["message"] else ""
        if oneline:
            output.say(f"{lane}{' ' if lane else ''}{digest} {row['ref']}{shown} {first}".rstrip())
            continue
        click.echo(
            click.style(f"version {row['ref']}", fg="yellow") + click.style(shown, fg="cyan")
        )
        sizes = row["sizes"]
        metrics = {k: v for k, v in row["metrics"].items() if k != "model_size"}
        output.pairs(
            {
                "id": row["id"] or "missing: its files are not here",
                "parent": ", ".join(row["parents"]),
                "date": f"{row['created_at']} ({output.ago(row['created_at'])})",
                "size": _size(sizes),
                "metrics": _inline(metrics),
                "params": _inline(row["training_parameters"]),
                "notes": row["notes"],
            },
            indent="  ",
        )
        if row["message"]:
            output.say("")
            for line in row["message"].splitlines():
                output.say(f"    {line}")
        output.say("")


def _size(sizes: dict[str, object]) -> str:
    if not sizes:
        return ""
    return (
        f"{output.size(sizes.get('logical'))}, {output.size(sizes.get('stored'))} new in the store"
    )


def _inline(values: dict[str, object]) -> str:
    return ", ".join(f"{key} {output.number(value)}" for key, value in values.items())
