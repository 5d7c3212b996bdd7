"""``mstore rollback``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.cli.set_active import report
from modelstore.ops.pointer import rollback as step_back
from modelstore.ops.resolve import resolve_model


@click.command()
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=complete.models)
@click.option("--steps", default=1, type=click.IntRange(min=1), show_default=True, help="Moves.")
@click.option("-m", "--message", default="", help="Why; kept in the journal.")
@common.store_options
@common.json_option
@click.pass_context
def rollback(ctx: click.Context, name: str | None, steps: int, message: str) -> None:
    """Move ACTIVE back to what it was.

    That is ACTIVE@{1}, what ACTIVE was before its last move, not ACTIVE~1, its parent.
    """
    chosen = common.settings(ctx)
    if name:
        chosen.model = name
    store = chosen.open()
    model = resolve_model(store, chosen.context())
    moved = step_back(store, model, steps=steps, why=message)
    report(chosen, moved)
    if moved.before != moved.after and not chosen.json:
        output.hint(f"go back with: mstore set-active {model}@{moved.before}")
