"""``mstore alias``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.errors import NotFoundError, UsageError
from modelstore.names import ModelName
from modelstore.ops.pointer import remove_alias, set_alias
from modelstore.ops.resolve import resolve, resolve_model
from modelstore.store import Store


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

    NAME means REF from now on; it may have meant another. Without REF, print what NAME means;
    without NAME, list.
    """
    chosen = common.settings(ctx)
    if delete and (name is None or ref is not None):
        raise UsageError(
            "-d takes the one alias to remove", f"say: mstore alias -d {name or 'NAME'}"
        )
    store = chosen.open()
    if name is None or not (ref or delete):
        _show(store, chosen, name)
        return
    if ref is None:
        moved = remove_alias(store, name, _model_of(store, chosen, name))
    else:
        moved = set_alias(store, name, resolve(store, ref, chosen.context()), why=message)
    if chosen.json:
        data = {"before": moved.before or None, "version": moved.after or None}
        output.emit("alias", {"model": moved.model, "alias": name, **data})
    elif delete:
        output.say(f"{name} no longer means {moved.model}@{moved.before}")
    else:
        was = f" (was {moved.before})" if moved.before else ""
        output.say(f"{name} is now {moved.model}@{moved.after}{was}")


def _aliases(
    store: Store, chosen: common.Settings, name: str | None
) -> dict[ModelName, dict[str, str]]:
    """Return the aliases of each model, or of those that have it only the one called ``name``."""
    only = chosen.model_name()
    found = {m: store.state(m).aliases for m in store.models() if only in (None, m)}
    if name is None:
        return found
    return {model: {name: names[name]} for model, names in found.items() if name in names}


def _model_of(store: Store, chosen: common.Settings, name: str) -> ModelName:
    """Return the model whose alias is meant: the only one that has it, if nothing was said."""
    having = list(_aliases(store, chosen, name))
    return having[0] if len(having) == 1 else resolve_model(store, chosen.context())


def _show(store: Store, chosen: common.Settings, name: str | None) -> None:
    aliases = _aliases(store, chosen, name)
    if name is not None and not aliases:
        raise NotFoundError(f"there is no alias {name!r}", f"set it: mstore alias {name} REF")
    if chosen.json:
        output.emit("aliases", {str(model): names for model, names in aliases.items()})
        return
    rows = [(alias, f"{m}@{v}") for m, names in aliases.items() for alias, v in names.items()]
    if rows:
        output.table(sorted(rows))
    else:
        output.hint("no aliases yet; make one with: mstore alias NAME REF")
