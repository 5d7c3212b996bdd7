"""``mstore repack``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from modelstore.cli import common, complete, output
from modelstore.errors import PartialError
from modelstore.names import parse_model
from modelstore.ops.repack import Gain, Repacked
from modelstore.ops.repack import repack as encode_anew
from modelstore.ops.repack_ways import Effort
from modelstore.ops.resolve import Resolved, resolve
from modelstore.store import Store


@click.command()
@click.argument("names", metavar="[REF|MODEL]...", nargs=-1, shell_complete=complete.refs)
@click.option(
    "--effort",
    type=click.Choice([effort.value for effort in Effort]),
    default=Effort.NORMAL.value,
    show_default=True,
    help="fast: newer codecs only; normal: other bases too; max: more bases, merged LoRAs, all anew.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Try everything and change nothing.")
@common.store_options
@common.silent_option("Print problems only.")
@common.json_option
@click.pass_context
def repack(ctx: click.Context, names: tuple[str, ...], effort: str, dry_run: bool) -> int:
    """Encode versions anew where that makes them smaller (default: all of them).

    Versions that were committed out of order, without a parent or by an older mstore take more
    room than they need. Nothing but their place on the disk changes: names, files and digests stay,
    and every version can be read, and others committed, all the while.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    versions = _versions(store, names, chosen)
    with output.progress(chosen) as progress:
        found = encode_anew(
            store, versions, effort=Effort(effort), dry_run=dry_run, progress=progress
        )
    if chosen.json:
        output.emit("repack", {"effort": effort, "dry_run": dry_run, **_as_json(found)})
    else:
        _show(found, dry_run=dry_run, quiet=chosen.quiet)
    return PartialError.exit_code if found.unreadable or found.left else 0


def _versions(store: Store, names: Sequence[str], chosen: common.Settings) -> list[Resolved] | None:
    """Return the versions that were named; None for all."""
    model = chosen.model_name()
    if not names and model is None:
        return None
    found: list[Resolved] = []
    for name in names or (str(model),):
        if name in store.models():
            line = parse_model(name)
            found += [Resolved(line, entry) for entry in store.state(line).entries()]
        else:
            found.append(resolve(store, name, chosen.context()))
    return found


def _show(found: Repacked, *, dry_run: bool, quiet: bool) -> None:
    if not quiet:
        _say(found, dry_run=dry_run)
    for line in found.unreadable:
        output.warn(line)
    if found.unreadable:
        output.hint("what could not be read was left as it is; next: mstore fsck --full")
    if found.left:
        left = output.count(found.left, "frame")
        output.hint(f"{left} left as they were, because of a commit; next: mstore repack")


def _say(found: Repacked, *, dry_run: bool) -> None:
    if len(found.models) > 1:
        head = ("model", "frames", "encoded anew", "before", "after", "won")
        rows = [(str(model), *_row(gain)) for model, gain in sorted(found.models.items())]
        output.table([head, *rows, ("all", *_row(found.total))], right=(1, 2, 3, 4, 5))
        output.say("")
    total = found.total
    would = "would be " if dry_run else ""
    if not total.recoded:
        output.say(f"nothing to win in {output.count(total.examined, 'frame')}")
        return
    anew = f"{total.recoded} of {output.count(total.examined, 'frame')} {would}encoded anew"
    sizes = f"{output.size(total.before)} before, {output.size(total.after)} after"
    output.say(f"{anew}: {sizes}, {output.size(total.won)} won")


def _row(gain: Gain) -> tuple[str, ...]:
    sizes = (gain.before, gain.after, gain.won)
    return (str(gain.examined), str(gain.recoded), *map(output.size, sizes))


def _as_json(found: Repacked) -> dict[str, object]:
    return {
        "models": [
            {"model": model, **_figures(gain)} for model, gain in sorted(found.models.items())
        ],
        "total": _figures(found.total),
        "left": found.left,
        "unreadable": list(found.unreadable),
    }


def _figures(gain: Gain) -> dict[str, int]:
    return {
        "examined": gain.examined,
        "recoded": gain.recoded,
        "before": gain.before,
        "after": gain.after,
    }
