"""``mstore doctor``."""

from __future__ import annotations

import click

from modelstore.cli import common, output
from modelstore.errors import NoStoreError
from modelstore.ops.doctor import OK, PROBLEM, Diagnosis
from modelstore.ops.doctor import doctor as look
from modelstore.store import Store


@click.command()
@common.store_options
@common.silent_option("Print notes and problems only.")
@common.json_option
@click.pass_context
def doctor(ctx: click.Context) -> int:
    """Check the environment: packages, file system, locks.

    Works without a store, too. Exits with 1 if there is a problem. To check what is in the store:
    mstore fsck.
    """
    chosen = common.settings(ctx)
    found = look(_store(chosen))
    if chosen.json:
        output.emit("doctor", [_as_json(one) for one in found])
    else:
        shown = [one for one in found if one.state != OK or not chosen.quiet]
        if shown:
            output.table([(one.state, one.name, one.what) for one in shown])
    return int(any(one.state == PROBLEM for one in found))


def _store(chosen: common.Settings) -> Store | None:
    """Return the store there is; one that was named must be there."""
    if chosen.place():
        return chosen.open()
    try:
        return chosen.open()
    except NoStoreError:
        return None


def _as_json(one: Diagnosis) -> dict[str, str]:
    return {"name": one.name, "state": one.state, "what": one.what}
