"""``mstore rm``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.ops.resolve import resolve
from modelstore.ops.rm import plan_rm
from modelstore.ops.rm import rm as remove


@click.command()
@click.argument("refs", metavar="REF...", nargs=-1, required=True, shell_complete=complete.refs)
@click.option("-m", "--message", default="", help="Why; kept in the journal.")
@click.option("-f", "--force", is_flag=True, help="Also what was changed, or is trained from.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would go, and change nothing.")
@common.store_options
@common.json_option
@click.pass_context
def rm(ctx: click.Context, refs: tuple[str, ...], message: str, force: bool, dry_run: bool) -> None:
    """Remove versions.

    Their directories go to the trash; blobs that no other version needs go there with the next
    mstore gc, and 14 days later the one that runs then removes them for good. Until then mstore
    undelete brings a version back. Its number is not given again.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    versions = [resolve(store, ref, chosen.context()) for ref in refs]
    plan = plan_rm(store, versions, force=force)
    directories = plan.directories if dry_run else remove(store, plan, why=message).directories
    if chosen.json:
        data = {
            "dry_run": dry_run,
            "versions": [str(one) for one in plan.versions],
            "directories": [str(path) for path in directories],
        }
        output.emit("rm", data)
        return
    for one in plan.versions:
        output.say(f"{one} would be removed" if dry_run else f"{one} is removed")
    if not dry_run:
        back = f"mstore undelete {plan.versions[-1]}"
        output.hint(f"bring it back with: {back}; free its space with: mstore gc")
