"""``mstore fetch``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.names import ModelName, parse_model
from modelstore.ops.fetch import Fetched
from modelstore.ops.fetch import fetch as bring
from modelstore.ops.remotes import opened


@click.command()
@click.argument("remote", required=False, default="", shell_complete=complete.remotes)
@click.argument("models", metavar="[MODEL]...", nargs=-1, shell_complete=complete.models)
@click.option("-n", "--dry-run", is_flag=True, help="Find out what would come, and change nothing.")
@common.key_file_option
@common.store_options
@common.silent_option("Print nothing.")
@common.json_option
@click.pass_context
def fetch(ctx: click.Context, remote: str, models: tuple[str, ...], dry_run: bool) -> None:
    """Bring what a remote has, and change no model (default: origin, all models).

    The frames of its versions come here, and what it says of its models is noted; mstore pull then
    only has to take it over.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    with opened(store, remote) as place, output.progress(chosen) as progress:
        found = bring(store, place, named(models, chosen), progress, dry_run=dry_run)
    if chosen.json:
        rows = [_as_json(one) for one in found]
        output.emit("fetch", {"remote": place.remote.shown, "dry_run": dry_run, "models": rows})
    elif not chosen.quiet:
        for one in found:
            output.say(f"{one.model}: {_outcome(one, dry_run=dry_run)}")


def named(models: tuple[str, ...], chosen: common.Settings) -> list[ModelName]:
    """Return the models that were named, if by -M; () for all."""
    model = chosen.model_name()
    return [parse_model(name) for name in models] or ([] if model is None else [model])


def _outcome(one: Fetched, *, dry_run: bool) -> str:
    if not one.new:
        return "nothing new"
    if dry_run:
        return f"would bring {', '.join(one.new)}; about {output.size(one.brought.bytes)}"
    size = f"{output.count(one.brought.frames, 'frame')}, {output.size(one.brought.bytes)}"
    return f"{', '.join(one.new)}; {size}"


def _as_json(one: Fetched) -> dict[str, object]:
    return {
        "model": one.model,
        "seq": one.line.seq,
        "versions": list(one.new),
        "frames": one.brought.frames,
        "bytes": one.brought.bytes,
    }
