"""``mstore restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from modelstore.cli import common, output
from modelstore.cli.destinations import key_option, opened, store_here
from modelstore.cli.memory import keep_freed
from modelstore.errors import UsageError
from modelstore.ops.restore import Restored, RestorePlan, plan_restore
from modelstore.ops.restore import restore as bring_back
from modelstore.ops.restore_files import FilesPlan, plan_files, restore_files
from modelstore.remotes.base import Remote

_PARTLY = 3


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.argument("refs", metavar="[REF]...", nargs=-1)
@click.option(
    "--at",
    default="",
    metavar="NAME|TIME",
    help="The backup of that name, or the last one by then: 2026-01-31.  [default: the newest]",
)
@click.option(
    "--rebase",
    is_flag=True,
    help="Give versions whose number is taken in DIR the next free one.",
)
@click.option(
    "--checkout",
    is_flag=True,
    help="Write the files out, too, into the versions' directories in DIR.",
)
@click.option(
    "--files",
    is_flag=True,
    help="Write the files of one version, REF, right into DIR, and make no store.",
)
@key_option
@click.option("-n", "--dry-run", is_flag=True, help="Show what would come, and change nothing.")
@common.store_options
@common.silent_option("Print only the refs of what came.")
@common.json_option
@click.pass_context
def restore(
    ctx: click.Context, /, source: str, directory: Path, refs: tuple[str, ...], **options: Any
) -> int:
    """Bring back everything, or models and versions, from the backup at FROM into DIR.

    DIR is a new store or one that exists; nothing in it is overwritten. Every byte is checked. A
    restore that was interrupted is completed by the same command.
    """
    chosen = common.settings(ctx)
    keep_freed()
    with opened(store_here(chosen), source, options["key_file"]) as remote:
        if options["files"]:
            return _only_files(chosen, remote, directory, refs, options)
        plan = plan_restore(remote, directory, refs, at=options["at"], rebase=options["rebase"])
        if options["dry_run"]:
            _show(chosen, plan)
            return _PARTLY if plan.lost else 0
        with output.progress(chosen) as progress:
            done = bring_back(remote, plan, progress, files=options["checkout"])
    if chosen.json:
        output.emit("restore", _as_json(plan, done))
    elif chosen.quiet:
        for one in done.versions:
            output.say(one.now)
    else:
        _report(plan, done, files=options["checkout"])
    return _PARTLY if plan.lost else 0


def _only_files(
    chosen: common.Settings,
    remote: Remote,
    directory: Path,
    refs: tuple[str, ...],
    options: dict[str, Any],
) -> int:
    if len(refs) != 1 or options["checkout"] or options["rebase"]:
        raise UsageError(
            "--files takes one REF, and neither --checkout nor --rebase",
            "mstore restore FROM DIR MODEL@v1.1 --files",
        )
    plan = plan_files(remote, directory, refs[0], at=options["at"])
    if not options["dry_run"]:
        with output.progress(chosen) as progress:
            restore_files(remote, plan, progress)
    if chosen.json:
        output.emit("restore", _files_as_json(plan, dry_run=options["dry_run"]))
    elif chosen.quiet:
        output.say(plan.ref)
    else:
        what = f"{output.count(len(plan.missing), 'file')}, {output.size(plan.size)},"
        place = output.place(plan.path)
        done = f"would be written to {place}"
        if not options["dry_run"]:
            done = f"written to {place}, every byte checked"
        output.say(f"{plan.ref} from {plan.backup.name}: {what} {done}")
    return 0


def _files_as_json(plan: FilesPlan, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "backup": plan.backup.name,
        "store": None,
        "path": str(plan.path),
        "versions": [{"was": plan.ref, "now": plan.ref}],
        "present": [],
        "frames": 0,
        "size": plan.size,
        "lost": [],
    }


def _show(chosen: common.Settings, plan: RestorePlan) -> None:
    if chosen.json:
        output.emit("restore", _as_json(plan, None))
        return
    for was, now in _coming(plan):
        output.say(f"{was} would come" if was == now else f"{was} would come as {now}")
    output.say(f"{output.size(plan.size)} from {plan.backup.name}")
    _tell_lost(plan)


def _report(plan: RestorePlan, done: Restored, *, files: bool) -> None:
    for one in done.versions:
        output.say(one.now if one.was == one.now else f"{one.was} -> {one.now}")
    came = output.count(len(done.versions), "version")
    there = f", {len(done.present)} there already" if done.present else ""
    written = "; files written" if files else ""
    output.say(
        f"{came} from {plan.backup.name}{there}: {output.size(done.size)}, every byte checked{written}"
    )
    _tell_lost(plan)
    if done.versions and not files:
        place = output.place(done.store.root)
        output.hint(f"write the files out with: mstore -C {place} checkout {done.versions[-1].now}")


def _tell_lost(plan: RestorePlan) -> None:
    if plan.lost:
        output.warn(f"lost before the backup was made: {', '.join(plan.lost)}")


def _coming(plan: RestorePlan) -> list[tuple[str, str]]:
    return [
        (f"{model.model}@{entry.version}", f"{model.model}@{number}")
        for model in plan.models
        for entry, number in model.added
    ]


def _as_json(plan: RestorePlan, done: Restored | None) -> dict[str, Any]:
    return {
        "dry_run": done is None,
        "backup": plan.backup.name,
        "store": str(plan.root.absolute()),
        "path": None,
        "versions": [{"was": was, "now": now} for was, now in _coming(plan)],
        "present": [ref for model in plan.models for ref in model.present],
        "frames": 0 if done is None else done.frames,
        "size": plan.size if done is None else done.size,
        "lost": list(plan.lost),
    }
