"""``mstore set-active``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.ops.pointer import Moved
from modelstore.ops.pointer import set_active as move
from modelstore.ops.resolve import resolve


@click.command("set-active")
@click.argument("ref", shell_complete=complete.refs)
@click.option(
    "--expect",
    default="",
    metavar="REF",
    shell_complete=complete.refs,
    help="Refuse unless REF is ACTIVE now (compare and swap).",
)
@click.option("-m", "--message", default="", help="Why; kept in the journal.")
@common.store_options
@common.json_option
@click.pass_context
def set_active(ctx: click.Context, ref: str, expect: str, message: str) -> None:
    """Move ACTIVE to a version.

    REF may be - for what was ACTIVE before. That a version is ACTIVE already is no error.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    resolved = resolve(store, ref, chosen.context())
    report(chosen, move(store, resolved, expect=expect, why=message))


def report(chosen: common.Settings, moved: Moved) -> None:
    """Print where ACTIVE is now, and where it was."""
    if chosen.json:
        data = {"model": moved.model, "before": moved.before or None, "active": moved.after}
        output.emit("set-active", data)
    elif moved.before == moved.after:
        output.say(f"{moved.model}@{moved.after} is ACTIVE already")
    else:
        was = f" (was {moved.before})" if moved.before else ""
        output.say(f"ACTIVE of {moved.model} is now {moved.after}{was}")
