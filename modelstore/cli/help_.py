"""``mstore help``, which users of git type."""

from __future__ import annotations

import click

from modelstore.cli import common


def _commands(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    group = ctx.find_root().command
    names = group.list_commands(ctx) if isinstance(group, click.Group) else []
    return [name for name in names if name.startswith(incomplete)]


@click.command("help")
@click.argument("name", metavar="[COMMAND]", required=False, shell_complete=_commands)
@common.store_options
@click.pass_context
def help_(ctx: click.Context, name: str | None) -> None:
    """Show the help of mstore or of a command."""
    root = ctx.find_root()
    group = root.command
    if name is None or not isinstance(group, click.Group):
        click.echo(root.get_help())
        return
    _, command, _ = group.resolve_command(root, [name])
    if command is not None:
        click.echo(command.get_help(click.Context(command, parent=root, info_name=name)))
