"""``mstore verify``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.ops.resolve import resolve
from modelstore.ops.verify import Problem, Verified, active_versions
from modelstore.ops.verify import verify as check

_NAMED = 3
"""Tensors that a line names before it says how many more there are."""


@click.command()
@click.argument("refs", metavar="[REF]...", nargs=-1, shell_complete=complete.refs)
@common.store_options
@common.silent_option("Print problems only.")
@common.json_option
@click.pass_context
def verify(ctx: click.Context, refs: tuple[str, ...]) -> int:
    """Check every byte of versions (default: ACTIVE of every model).

    Decodes every blob, makes the digests of every file again, and looks at the directories that
    the version is checked out in. Exits with 1 if anything is wrong.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    if refs:
        versions = [resolve(store, ref, chosen.context()) for ref in refs]
    else:
        model = chosen.model_name()
        active = [one for one in active_versions(store) if model in (None, one.model)]
        versions = [one for one in active if one.id is not None]
        for missing in (one for one in active if one.id is None):
            output.hint(f"{missing} is registered but its files are missing: nothing to verify")
    with output.progress(chosen) as progress:
        found = [check(store, version, progress) for version in versions]
    if chosen.json:
        output.emit("verify", [_as_json(one) for one in found])
    else:
        for one in found:
            _show(one, quiet=chosen.quiet)
        if not found and not store.models():
            output.hint("no versions yet; next: mstore commit DIR -M MODEL -m MESSAGE")
    return int(not all(one.sound for one in found))


def _show(found: Verified, *, quiet: bool) -> None:
    if found.sound:
        if not quiet:
            where = "".join(f", and {path}" for path in found.directories)
            checked = f"{output.count(found.files, 'file')}, {output.size(found.size)}"
            output.say(f"{found.resolved}: sound ({checked}{where})")
        return
    count = len(found.problems)
    output.say(f"{found.resolved}: {count} problem{'s' if count > 1 else ''}")
    for problem in found.problems:
        output.say(f"  {_line(problem)}")
    if found.held_by is not None:
        output.hint(f"'{found.held_by}' still holds the files; take them in with: mstore adopt")
    elif any(problem.directory is None for problem in found.problems):
        output.hint(
            "the store is damaged; mend what can be mended with: mstore fsck --full --repair"
        )
    else:
        output.hint(f"the store is sound; write the files again: mstore checkout {found.resolved}")


def _line(problem: Problem) -> str:
    where = f"{problem.directory}/" if problem.directory is not None else ""
    names = ", ".join(problem.tensors[:_NAMED])
    more = len(problem.tensors) - _NAMED
    names += f" and {more} more" if more > 0 else ""
    return f"{where}{problem.file}: {problem.what}{f' ({names})' if names else ''}"


def _as_json(found: Verified) -> dict[str, object]:
    return {
        "ref": str(found.resolved),
        "sound": found.sound,
        "files": found.files,
        "blobs": found.blobs,
        "size": found.size,
        "directories": [str(path) for path in found.directories],
        "problems": [
            {
                "file": problem.file,
                "tensors": list(problem.tensors),
                "what": problem.what,
                "directory": None if problem.directory is None else str(problem.directory),
            }
            for problem in found.problems
        ],
    }
