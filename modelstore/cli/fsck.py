"""``mstore fsck``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import click

from modelstore.cli import common, output
from modelstore.cli.destinations import opened
from modelstore.ops.findings import Affected, Checked, Finding
from modelstore.ops.fsck import Level, Subset, parse_subset
from modelstore.ops.fsck import fsck as check
from modelstore.ops.mend import repair as mend
from modelstore.ops.mend_remote import from_remote
from modelstore.ops.remotes import known

_NAMED = 3
"""Tensors, blobs or versions that a line names before it says how many more there are."""


def _subset(_: click.Context, __: click.Parameter, value: str | None) -> Subset | None:
    return parse_subset(value) if value else None


@click.command()
@click.option("--quick", is_flag=True, help="Only what is there: no leftovers, no unneeded frames.")
@click.option("--full", is_flag=True, help="Read and decode every byte, and hash every file.")
@click.option(
    "--read-data-subset",
    "subset",
    metavar="PART",
    callback=_subset,
    help="Read and decode some of the frames: 2/7 is the second of seven parts, which together are "
    "all; 5% or 500M is the part whose turn it is today.",
)
@click.option("--repair", is_flag=True, help="Put right what can be put right; delete nothing.")
@click.option(
    "--from",
    "source",
    metavar="REMOTE",
    help="With --repair: bring what is lost back from a remote or a backup, too.",
)
@common.store_options
@common.silent_option("Print problems only.")
@common.json_option
@click.pass_context
def fsck(
    ctx: click.Context,
    quick: bool,
    full: bool,
    subset: Subset | None,
    repair: bool,
    source: str | None,
) -> int:
    """Check the whole store, and repair it.

    Looks at settings, registries and manifests, at every blob of every version and what it is built
    on, and for leftovers. Without --repair nothing is written. With it, damaged frames are moved to
    .mstore/quarantine/ and come back from the trash, from checked-out files, or from --from, and
    registries are made again from what is left of them. Exits with 1 if anything is wrong;
    leftovers of killed processes are notes.
    """
    if quick + full + (subset is not None) > 1:
        raise click.UsageError("--quick, --full and --read-data-subset exclude each other.")
    if source and not repair:
        raise click.UsageError("--from is for --repair.")
    chosen = common.settings(ctx)
    store = chosen.open()
    level = Level.QUICK if quick else Level.FULL if full else Level.DEFAULT
    with output.progress(chosen) as progress:
        if source:
            with opened(store, source, None) as remote:
                found = mend(store, level, subset, progress, [from_remote(remote)])
        else:
            found = (mend if repair else check)(store, level, subset, progress)
    if chosen.json:
        output.emit("fsck", {"repair": repair, **_as_json(found)})
    else:
        _show(found, quiet=chosen.quiet)
        if not chosen.quiet:
            decoded = full or subset is not None
            _advise(found, repair=repair, decoded=decoded, remotes=[r.name for r in known(store)])
    return int(not found.sound)


def _show(found: Checked, *, quiet: bool) -> None:
    if not quiet:
        for line, _ in _lines(found.mended):
            output.say(f"mended: {line}")
    for line, lost in _lines(found.problems):
        output.say(f"problem: {line}")
        if lost:
            output.say(f"  lost with it: {lost}")
    if quiet:
        return
    for one in found.notes:
        output.hint(f"note: {one.name}: {one.what}")
    counts = (
        output.count(found.models, "model"),
        output.count(found.versions, "version"),
        output.count(found.frames, "frame"),
    )
    read = f", {output.size(found.bytes_read)} read" if found.bytes_read else ""
    problems = output.count(len(found.problems), "problem") if found.problems else "sound"
    output.say(f"{', '.join(counts)}{read}: {problems}")


def _advise(found: Checked, *, repair: bool, decoded: bool, remotes: Sequence[str]) -> None:
    """Say what to do next."""
    if found.problems and not repair:
        how = "--full --repair" if decoded else "--repair"  # mended is only what is found again
        output.hint(f"put right what can be put right with: mstore fsck {how}")
        return
    if any(one.kind == "blob" and one.affected for one in found.problems):
        for name in remotes:
            output.hint(f"'{name}' may have what is lost: mstore fsck --repair --from {name}")
        output.hint("lost content comes back when the same files are committed: mstore commit DIR")
    if any(one.kind == "blob" and one.affected for one in found.mended):
        output.hint("what came back takes more room than it needs; next: mstore repack")


def _lines(findings: Iterable[Finding]) -> Iterator[tuple[str, str]]:
    """Yield a line for each finding, one for all blobs of the same versions, and what is lost."""

    def alike(one: Finding) -> tuple[str, str, tuple[str, ...]]:
        name = "" if one.kind == "blob" else one.name
        return one.what, one.mended + name, tuple(a.ref for a in one.affected)

    ordered = sorted(findings, key=lambda one: (one.kind, alike(one)))
    for (what, _, _), group in groupby(ordered, alike):
        alike_ones = list(group)
        yield f"{_name(alike_ones)}: {what}{_mended(alike_ones[0])}", _lost(alike_ones)


def _name(findings: Sequence[Finding]) -> str:
    names = [f"blob {one.name[:12]}" if one.kind == "blob" else one.name for one in findings]
    return _some(names)


def _mended(finding: Finding) -> str:
    return f"; {finding.mended}" if finding.mended else ""


def _lost(findings: Sequence[Finding]) -> str:
    """Return what is lost: versions, their files and tensors."""
    files: dict[tuple[str, str], list[str]] = {}
    for one in findings:
        for affected in one.affected if not one.mended else ():
            files.setdefault((affected.ref, affected.file), []).extend(affected.tensors)
    rows = [
        f"{ref}: {file}{f' ({_some(tensors)})' if tensors else ''}"
        for (ref, file), tensors in files.items()
    ]
    return _some(rows, "; ")


def _some(names: Sequence[str], between: str = ", ") -> str:
    names = list(dict.fromkeys(names))
    more = len(names) - _NAMED
    shown = between.join(names[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _as_json(found: Checked) -> dict[str, object]:
    return {
        "level": found.level,
        "sound": found.sound,
        "models": found.models,
        "versions": found.versions,
        "frames": found.frames,
        "bytes_read": found.bytes_read,
        "problems": [_row(one) for one in found.problems],
        "notes": [_row(one) for one in found.notes],
        "mended": [_row(one) for one in found.mended],
    }


def _row(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "name": finding.name,
        "what": finding.what,
        "affected": [_affected(one) for one in finding.affected],
        "mended": finding.mended,
    }


def _affected(one: Affected) -> dict[str, object]:
    return {"ref": one.ref, "file": one.file, "tensors": list(one.tensors)}
