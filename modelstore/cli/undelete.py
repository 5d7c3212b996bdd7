"""``mstore undelete``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.ops.undelete import resolve_removed
from modelstore.ops.undelete import undelete as bring_back


@click.command()
@click.argument("ref", shell_complete=complete.removed)
@click.option("-m", "--message", default="", help="Why; kept in the journal.")
@common.store_options
@common.json_option
@click.pass_context
def undelete(ctx: click.Context, ref: str, message: str) -> None:
    """Bring back a version that was removed.

    REF is its number, or the beginning of its id. It comes back as it was: number, id, notes,
    directory. That can be done until mstore gc has removed what it consisted of for good.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    done = bring_back(store, resolve_removed(store, ref, chosen.context()), why=message)
    if chosen.json:
        data = {
            "ref": str(done.resolved),
            "blobs": done.blobs,
            "directories": [str(path) for path in done.directories],
        }
        output.emit("undelete", data)
        return
    trash = f" ({output.count(done.blobs, 'blob')} from the trash)" if done.blobs else ""
    output.say(f"{done.resolved} is back{trash}")
