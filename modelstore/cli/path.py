"""``mstore path``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.ops.checkout import checkout
from modelstore.ops.resolve import resolve


@click.command()
@click.argument("ref", default="ACTIVE", shell_complete=complete.refs)
@common.store_options
@common.json_option
@click.pass_context
def path(ctx: click.Context, ref: str) -> None:
    """Print the directory of a version, writing it if need be.

    Every file in it is that of the version, or nothing is printed: changed files are an error.

    How scripts use the ACTIVE model: --model "$(mstore path)".
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    resolved = resolve(store, ref, chosen.context())
    with output.progress(chosen) as progress:
        directory = checkout(store, resolved, progress=progress).path
    if chosen.json:
        output.emit("path", {"ref": str(resolved), "path": str(directory)})
    else:
        click.echo(str(directory))
