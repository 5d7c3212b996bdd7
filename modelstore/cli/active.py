"""``mstore active``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.names import ModelName
from modelstore.ops.resolve import resolve_model
from modelstore.store import Store


@click.command()
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=complete.models)
@click.option("--history", is_flag=True, help="Every version it was, newest first.")
@common.store_options
@common.json_option
@click.pass_context
def active(ctx: click.Context, name: str | None, history: bool) -> None:
    """Print the ACTIVE version.

    Without MODEL, of every model; ACTIVE@{1} is the second line of --history.
    """
    chosen = common.settings(ctx)
    if name:
        chosen.model = name
    store = chosen.open()
    models = [resolve_model(store, chosen.context())] if chosen.model_name() else store.models()
    if history:
        _history(store, models, chosen)
        return
    states = {model: store.state(model) for model in models}
    if chosen.json:
        output.emit("active", {str(m): state.active or None for m, state in states.items()})
        return
    output.notices(list(states.values()))
    for model, state in states.items():
        if state.active:
            output.say(f"{model}@{state.active}")
        elif name or not state.document["versions"]:
            output.hint(f"{model} has no ACTIVE version")


def _history(store: Store, models: list[ModelName], chosen: common.Settings) -> None:
    moves = {
        model: [{"why": "", **move} for move in reversed(store.state(model).history)]
        for model in models
    }
    if chosen.json:
        output.emit("active-history", {str(model): rows for model, rows in moves.items()})
        return
    for model, rows in moves.items():
        for back, row in enumerate(rows):
            why = next(iter(row["why"].splitlines()), "")
            output.say(
                f"{model}@ACTIVE@{{{back}}}  {row['version']}  {row['at']}  {row['op']}  {why}".rstrip()
            )
