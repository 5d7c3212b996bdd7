"""``mstore completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from modelstore.cli import common


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common.store_options
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell's completion script.

    For bash: eval "$(mstore completion bash)", in ~/.bashrc. It completes models and versions too.
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"{shell} is not supported")
    complete = found(ctx.find_root().command, {}, "mstore", "_MSTORE_COMPLETE")
    click.echo(complete.source())
