"""``mstore clone``."""

from __future__ import annotations

from pathlib import Path

import click

from modelstore.cli import common, output
from modelstore.cli.pull import as_json, show
from modelstore.ops.clone import clone as make


@click.command()
@click.argument("url")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@click.option("--lazy", is_flag=True, help="Bring weights only when a version is read.")
@common.key_file_option
@common.store_options
@common.silent_option("Print problems only.")
@common.json_option
@click.pass_context
def clone(ctx: click.Context, url: str, directory: Path | None, lazy: bool) -> None:
    """Make a new store of what a remote has.

    DIR must not exist, or be empty; default: ./tuned_models. -M MODEL brings one model only. The
    remote is called origin from then on. Cut short, the same command goes on where it stopped.
    """
    chosen = common.settings(ctx)
    model = chosen.model_name()
    root = directory or Path("tuned_models")
    with output.progress(chosen) as progress:
        done = make(
            url,
            root,
            [] if model is None else [model],
            lazy=lazy,
            environment=chosen.environment(),
            progress=progress,
        )
    chosen.opened.append(done.store)
    if chosen.json:
        rows = [as_json(one) for one in done.models]
        output.emit("clone", {"store": str(done.store.root), "lazy": lazy, "models": rows})
    else:
        show(done.models, quiet=chosen.quiet)
        if not chosen.quiet:
            output.say(f"  {output.place(root)}")
