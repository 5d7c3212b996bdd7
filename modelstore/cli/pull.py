"""``mstore pull``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from modelstore.cli import common, complete, output
from modelstore.cli.fetch import named
from modelstore.ops.pull import Pulled
from modelstore.ops.pull import pull as take_over
from modelstore.ops.remotes import opened


@click.command()
@click.argument("remote", required=False, default="", shell_complete=complete.remotes)
@click.argument("models", metavar="[MODEL]...", nargs=-1, shell_complete=complete.models)
@click.option(
    "--rebase",
    is_flag=True,
    help="Where a model was changed here and there, put our changes on top of theirs.",
)
@click.option(
    "-n", "--dry-run", is_flag=True, help="Find out what would be done, and change nothing."
)
@common.key_file_option
@common.store_options
@common.silent_option("Print remarks only.")
@common.json_option
@click.pass_context
def pull(
    ctx: click.Context, remote: str, models: tuple[str, ...], rebase: bool, dry_run: bool
) -> None:
    """Bring what a remote has, and take it over (default: origin, all models).

    Where a model was changed here and there, nothing of it happens without --rebase. With it, a
    version of ours whose number they gave, too, gets the next free one, and is said; its content
    and its id stay.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    with opened(store, remote) as place, output.progress(chosen) as progress:
        done = take_over(
            store,
            place,
            named(models, chosen),
            rebase=rebase,
            dry_run=dry_run,
            progress=progress,
        )
    if chosen.json:
        rows = [as_json(one) for one in done]
        output.emit("pull", {"remote": place.remote.shown, "dry_run": dry_run, "models": rows})
    else:
        show(done, quiet=chosen.quiet, dry_run=dry_run)


def show(done: Sequence[Pulled], *, quiet: bool, dry_run: bool = False) -> None:
    """Print what a pull did, or would do."""
    for one in done:
        if not quiet:
            output.say(f"{one.model}: {_outcome(one, dry_run=dry_run)}")
        for sentence in one.said:
            output.warn(sentence)


def _outcome(one: Pulled, *, dry_run: bool) -> str:
    if one.outcome == "same":
        return "up to date"
    if one.outcome == "ahead":
        return "up to date; what was changed here can be pushed"
    what = ", ".join(one.versions) or "changes of the registry"
    if dry_run:
        return f"would bring {what}; about {output.size(one.brought.bytes)}"
    size = f"{output.count(one.brought.frames, 'frame')}, {output.size(one.brought.bytes)}"
    return f"{what}; {size}"


def as_json(one: Pulled) -> dict[str, object]:
    """Return what a pull did to a model, as its JSON says it."""
    return {
        "model": one.model,
        "outcome": one.outcome,
        "versions": list(one.versions),
        "renamed": dict(one.renamed),
        "said": list(one.said),
        "frames": one.brought.frames,
        "bytes": one.brought.bytes,
    }
