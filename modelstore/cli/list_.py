"""``mstore list``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from modelstore.cli import common, complete, output
from modelstore.ops.history import History
from modelstore.ops.history import log as read


@click.command("list")
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=complete.models)
@click.option("--removed", is_flag=True, help="Versions that were removed, instead.")
@common.store_options
@common.json_option
@click.pass_context
def list_(ctx: click.Context, name: str | None, removed: bool) -> None:
    """List models and versions.

    A * marks the ACTIVE version of each model; STORED is what a version added to the store.
    """
    chosen = common.settings(ctx)
    if name:
        chosen.model = name
    store = chosen.open()
    histories = read(store, str(chosen.model_name() or ""), context=chosen.context())
    if removed:
        _show_removed(chosen, histories)
        return
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


def _show_removed(chosen: common.Settings, histories: Sequence[History]) -> None:
    found = [
        (f"{history.model}@{version}", history.state.removed_entry(str(version)))
        for history in histories
        for version in history.state.removed()
    ]
    rows = [
        {
            "ref": ref,
            "id": entry.id,
            "created_at": entry.text("created_at"),
            "message": entry.text("message"),
        }
        for ref, entry in found
        if entry is not None
    ]
    if chosen.json:
        output.emit("list-removed", rows)
        return
    for row in rows:
        output.say(f"{row['ref']}  {(row['id'] or 'missing')[:12]}  {row['message']}".rstrip())
    if rows:
        back = f"mstore undelete {rows[-1]['ref']}"
        output.hint(f"until a gc has purged its blobs, one comes back with: {back}")
    else:
        output.hint("no version was removed")


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
