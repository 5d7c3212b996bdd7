"""``mstore checkout``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from modelstore.cli import common, complete, output
from modelstore.errors import UsageError
from modelstore.ops.checkout import CheckedOut, checkout_adapter
from modelstore.ops.checkout import checkout as write
from modelstore.ops.checkout import release as take_away
from modelstore.ops.resolve import resolve


@click.command()
@click.argument("ref", default="ACTIVE", shell_complete=complete.refs)
@click.option(
    "-o",
    "--output",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write here, outside the store; default: the version's own directory in it.",
)
@click.option("--files", multiple=True, metavar="GLOB", help="Only files that fit, as '*.json'.")
@click.option("--adapter", is_flag=True, help="Only the adapter, as PEFT loads it.")
@click.option("--release", is_flag=True, help="Take the files away again; the store has them.")
@click.option("-f", "--force", is_flag=True, help="Overwrite local changes; --release never does.")
@common.store_options
@common.quiet_option
@common.json_option
@click.pass_context
def checkout(
    ctx: click.Context, /, ref: str, directory: Path | None, *, force: bool, **which: Any
) -> None:
    """Write the files of a version.

    They come out byte for byte as they were committed. Files that were changed since are never
    overwritten without -f.

    A version that was trained with adapters keeps them beside the weights that they were merged into:
    --adapter writes them alone, into DIR itself, else into adapter/ in the version's own directory.
    """
    if which["adapter"] and (which["files"] or which["release"]):
        raise UsageError("--adapter goes with neither --files nor --release")
    chosen = common.settings(ctx)
    store = chosen.open()
    resolved = resolve(store, ref, chosen.context())
    release = bool(which["release"])
    if release:
        done = take_away(store, resolved, output=directory)
    else:
        only = {} if which["adapter"] else {"files": which["files"]}
        writing = checkout_adapter if which["adapter"] else write
        with output.progress(chosen) as progress:
            done = writing(
                store, resolved, output=directory, force=force, progress=progress, **only
            )
    if chosen.json:
        output.emit("checkout", {"ref": str(resolved), **as_json(done)})
    elif chosen.quiet:
        output.say(str(done.path))
    elif release:
        freed = f"{output.count(len(done.removed), 'file')}, {output.size(done.size)}"
        output.say(f"{resolved}: released {freed} from {output.place(done.path)}")
    else:
        same = f"; {output.count(len(done.kept), 'file')} already right" if done.kept else ""
        wrote = output.count(len(done.written), "file")
        output.say(f"{resolved}: wrote {wrote}, {output.size(done.size)}{same}")
        output.say(f"  {output.place(done.path)}")


def as_json(done: CheckedOut) -> dict[str, object]:
    """Return what a checkout did, as its JSON says it."""
    return {
        "path": str(done.path),
        "written": list(done.written),
        "kept": list(done.kept),
        "removed": list(done.removed),
        "size": done.size,
    }
