"""``mstore du``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.names import parse_model
from modelstore.ops.resolve import Resolved, resolve
from modelstore.ops.usage import Usage, VersionUsage, usage
from modelstore.store import Store

_SHOWN = 5
"""Unreadable things that are named; JSON has them all."""


@click.command()
@click.argument("name", metavar="[REF|MODEL]", required=False, shell_complete=complete.refs)
@common.store_options
@common.json_option
@click.pass_context
def du(ctx: click.Context, name: str | None) -> None:
    """Show what versions cost.

    logical: the files as they are when checked out; stored: what they take in the store, bases
    included; unique: what only this version needs; hydrated: what checkout --release would free.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    only = _version(store, name, chosen)
    model = parse_model(name) if name and only is None else chosen.model_name()
    found = usage(store, model=model, only=only)
    if chosen.json:
        output.emit("du", _as_json(found))
        return
    if found.versions:
        head = ("version", "logical", "stored", "unique", "shared", "hydrated")
        output.table([head, *map(_row, found.versions)], right=(1, 2, 3, 4, 5))
        output.say("")
    output.pairs(
        {
            "all versions": output.size(found.logical),
            "store": f"{output.size(found.stored)}{_times(found)}",
            "reclaimable": _reclaimable(found),
            "hydrated": output.size(found.hydrated),
        }
    )
    for line in found.unreadable[:_SHOWN]:
        output.warn(line)
    if len(found.unreadable) > _SHOWN:
        output.warn(f"and {len(found.unreadable) - _SHOWN} more that cannot be read")
    if found.unreadable:
        output.hint("what could be reclaimed is unknown; next: mstore fsck")


def _version(store: Store, name: str | None, chosen: common.Settings) -> Resolved | None:
    """Return the version that was named; None for a model, or for everything."""
    if not name or name in store.models():
        return None
    return resolve(store, name, chosen.context())


def _row(row: VersionUsage) -> tuple[str, ...]:
    sizes = (row.logical, row.stored, row.unique, row.shared, row.hydrated)
    return (str(row.resolved), *map(output.size, sizes))


def _times(found: Usage) -> str:
    return f" ({found.ratio:.1f} times smaller)" if found.ratio > 1 else ""


def _reclaimable(found: Usage) -> str:
    trash = f", {output.size(found.trash)} of it in the trash" if found.trash else ""
    return f"{output.size(found.reclaimable)}{trash}"


def _as_json(found: Usage) -> dict[str, object]:
    return {
        "versions": [
            {
                "ref": str(row.resolved),
                "logical": row.logical,
                "stored": row.stored,
                "unique": row.unique,
                "shared": row.shared,
                "hydrated": row.hydrated,
            }
            for row in found.versions
        ],
        "logical": found.logical,
        "stored": found.stored,
        "ratio": found.ratio,
        "reclaimable": found.reclaimable,
        "trash": found.trash,
        "hydrated": found.hydrated,
        "unreadable": list(found.unreadable),
    }
