"""``mstore use``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.errors import NotFoundError
from modelstore.names import parse_model
from modelstore.ops.resolve import default_model


@click.command()
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=complete.models)
@click.option("--unset", is_flag=True, help="Have no default again.")
@common.store_options
@common.json_option
@click.pass_context
def use(ctx: click.Context, name: str | None, unset: bool) -> None:
    """Choose the default model.

    A bare ref that could be of several models means this one. Without MODEL, print it: the one
    last committed to, where none was chosen.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    if unset:
        store.configure({"default_model": ""})
    elif name:
        model = parse_model(name)
        if not store.registry(model).exists():
            raise NotFoundError(f"there is no model {name!r}", "run: mstore list")
        store.configure({"default_model": model})
    current = default_model(store)
    if chosen.json:
        output.emit("use", {"model": current})
    elif current is None:
        output.say("no default model")
    elif unset:
        output.say(f"no default model; bare refs fall back to {current}, last committed to")
    else:
        output.say(current)
        if not store.config().get("default_model"):
            output.hint("it is the one last committed to; choose with: mstore use MODEL")
