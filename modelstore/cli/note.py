"""``mstore note``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.ops.pointer import add_note
from modelstore.ops.resolve import resolve


@click.command()
@click.argument("ref", shell_complete=complete.refs)
@click.argument("text", required=False)
@common.store_options
@common.json_option
@click.pass_context
def note(ctx: click.Context, ref: str, text: str | None) -> None:
    """Add a note to a version.

    Notes are kept in the registry, one line each; the version itself never changes.
    Without TEXT, print them.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    resolved = resolve(store, ref, chosen.context())
    notes = add_note(store, resolved, text) if text else resolved.entry.text("notes")
    if chosen.json:
        output.emit("note", {"ref": str(resolved), "notes": notes})
    else:
        for line in notes.splitlines():
            output.say(line)
