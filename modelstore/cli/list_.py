"""``mstore list``."""

from __future__ import annotations

from typing import Any

import click

from modelstore.cli import common, complete, output
from modelstore.ops.history import log as read


@click.command("list")
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=complete.models)
@common.store_options
@common.json_option
@click.pass_context
def list_(ctx: click.Context, name: str | None) -> None:
    """List models and versions.

    A * marks the ACTIVE version of each model; STORED is what a version added to the store.
    """
    chosen = common.settings(ctx)
    if name:
        chosen.model = name
    store = chosen.open()
    histories = read(store, str(chosen.model_name() or ""), context=chosen.context())
    descriptions = [history.description for history in histories]
    if chosen.json:
        output.emit("list", [description.model_row() for description in descriptions])
        return
    output.notices([history.state for history in histories])
    rows: list[tuple[str, ...]] = [("", "VERSION", "ID", "SIZE", "STORED", "CREATED", "LOSS", "")]
    for history, description in zip(histories, descriptions, strict=True):
        rows += [_row(description.row(entry)) for entry in history.entries]
    if len(rows) > 1:
        output.table(rows, right=(3, 4))
    for history in histories:
        if not history.entries:
            output.say(f"{history.model}: no versions yet (base {history.state.base_model or '-'})")
    if not histories:
        output.hint("no models yet; next: mstore commit DIR -M MODEL -m MESSAGE")


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    sizes = row["sizes"]
    return (
        "*" if row["active"] else "",
        row["ref"],
        (row["id"] or "missing")[:12],
        output.size(sizes.get("logical")),
        output.size(sizes.get("stored")),
        output.ago(row["created_at"]),
        output.number(row["metrics"].get("loss")),
        ", ".join(row["aliases"]),
    )
