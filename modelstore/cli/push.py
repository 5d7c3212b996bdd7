"""``mstore push``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from modelstore.cli import common, complete, output
from modelstore.errors import PartialError
from modelstore.names import ModelName, parse_model
from modelstore.ops.push import Pushed
from modelstore.ops.push import push as send
from modelstore.ops.remotes import opened
from modelstore.ops.resolve import resolve
from modelstore.store import Store


@click.command()
@click.argument("remote", required=False, default="", shell_complete=complete.remotes)
@click.argument("names", metavar="[MODEL|REF]...", nargs=-1, shell_complete=complete.refs)
@click.option(
    "-n", "--dry-run", is_flag=True, help="Find out what would be sent, and send nothing."
)
@click.option("--read-back", is_flag=True, help="Read all that was sent again, and check it.")
@common.key_file_option
@common.store_options
@common.silent_option("Print problems only.")
@common.json_option
@click.pass_context
def push(
    ctx: click.Context, remote: str, names: tuple[str, ...], dry_run: bool, read_back: bool
) -> int:
    """Send models to a remote (default: origin, and all models that have versions).

    REMOTE is a name, or an address as mstore help remote has them. Only what is not there moves.
    A model goes with all its versions, and its registry last; where somebody else pushed
    meanwhile, nothing of theirs is overwritten: pull first.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    models = models_named(store, names, chosen)
    with opened(store, remote) as place, output.progress(chosen) as progress:
        done = send(store, place, models, dry_run=dry_run, read_back=read_back, progress=progress)
    failed = [one.error for one in done if one.error is not None]
    if len(failed) == len(done) == 1:
        raise failed[0]
    if chosen.json:
        rows = [_as_json(one) for one in done]
        output.emit("push", {"remote": place.remote.shown, "dry_run": dry_run, "models": rows})
    else:
        _show(done, place.said, dry_run=dry_run, quiet=chosen.quiet)
    return PartialError.exit_code if failed else 0


def models_named(store: Store, names: Sequence[str], chosen: common.Settings) -> list[ModelName]:
    """Return the models that were named, by themselves, by refs, or by -M; () for all."""
    model = chosen.model_name()
    if not names:
        return [] if model is None else [model]
    found = [
        parse_model(name)
        if name in store.models()
        else resolve(store, name, chosen.context()).model
        for name in names
    ]
    return list(dict.fromkeys(found))


def _show(done: Sequence[Pushed], said: str, *, dry_run: bool, quiet: bool) -> None:
    for one in done:
        if one.error is not None:
            output.warn(f"{one.model}: {one.error.message}")
            if one.error.hint:
                output.hint(one.error.hint)
        elif not quiet:
            output.say(f"{one.model}: {_outcome(one, dry_run=dry_run)}")
    if not done and not quiet:
        output.say(f"nothing to push to {said}: no model has versions")


def _outcome(one: Pushed, *, dry_run: bool) -> str:
    if one.outcome == "same":
        return "nothing to push"
    would = "would send" if dry_run else "sent"
    versions = f"{', '.join(one.versions)}; " if one.versions else "changes of the registry; "
    return f"{would} {versions}{output.count(one.frames, 'frame')}, {output.size(one.bytes)}"


def _as_json(one: Pushed) -> dict[str, object]:
    return {
        "model": one.model,
        "outcome": one.outcome,
        "versions": list(one.versions),
        "frames": one.frames,
        "bytes": one.bytes,
        "error": None if one.error is None else one.error.message,
    }
