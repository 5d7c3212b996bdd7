"""``mstore init``."""

from __future__ import annotations

from pathlib import Path

import click

from modelstore.cli import common, output
from modelstore.ops.init import init as make


@click.command()
@click.argument("directory", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--bare", is_flag=True, help="Add no lines of versions.")
@common.store_options
@common.json_option
@click.pass_context
def init(ctx: click.Context, directory: Path | None, bare: bool) -> None:
    """Make a directory a store.

    DIRECTORY is ./tuned_models unless said otherwise. It gets the lines llama_1b and llama_8b.
    Running it again changes nothing.
    """
    chosen = common.settings(ctx)
    root = directory or Path(chosen.store or "tuned_models")
    made = make(root, lines=not bare)
    if chosen.json:
        output.emit(
            "init",
            {"path": str(made.store.root), "created": made.created, "models": list(made.models)},
        )
        return
    word = "Made a store at" if made.created else "There is a store already at"
    output.say(f"{word} {output.place(root)}")
    for model in made.models:
        output.say(f"  {model}: {made.store.state(model).base_model}")
    if made.created:
        output.hint("next: mstore commit DIR -M MODEL -m MESSAGE")
