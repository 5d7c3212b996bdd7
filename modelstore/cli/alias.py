"""``mstore alias``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.ops.pointer import remove_alias, set_alias
from modelstore.ops.resolve import resolve, resolve_model


@click.command()
@click.argument("name", required=False)
@click.argument("ref", required=False, shell_complete=complete.refs)
@click.option("-d", "--delete", is_flag=True, help="Remove the alias; the version stays.")
@click.option("-m", "--message", default="", help="Why; kept in the journal.")
@common.store_options
@common.json_option
@click.pass_context
def alias(
    ctx: click.Context, name: str | None, ref: str | None, delete: bool, message: str
) -> None:
    """Give a version a further name.

    NAME means REF (default: ACTIVE) from now on; it may have meant another. Without NAME, list.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    if name is None:
        _list(chosen)
        return
    if delete:
        moved = remove_alias(store, name, resolve_model(store, chosen.context()))
    else:
        resolved = resolve(store, ref or "ACTIVE", chosen.context())
        moved = set_alias(store, name, resolved, why=message)
    if chosen.json:
        data = {"before": moved.before or None, "version": moved.after or None}
        output.emit("alias", {"model": moved.model, "alias": name, **data})
    elif delete:
        output.say(f"{name} no longer means {moved.model}@{moved.before}")
    else:
        was = f" (was {moved.before})" if moved.before else ""
        output.say(f"{name} is now {moved.model}@{moved.after}{was}")


def _list(chosen: common.Settings) -> None:
    store = chosen.open()
    only = chosen.model_name()
    models = [model for model in store.models() if only in (None, model)]
    aliases = {str(model): store.state(model).aliases for model in models}
    if chosen.json:
        output.emit("aliases", aliases)
        return
    rows = [(name, f"{m}@{v}") for m, names in aliases.items() for name, v in names.items()]
    if rows:
        output.table(rows)
    else:
        output.hint("no aliases yet; make one with: mstore alias NAME REF")
