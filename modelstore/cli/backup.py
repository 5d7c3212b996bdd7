"""``mstore backup``: making backups, and looking after them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from modelstore.cli import common, output
from modelstore.cli.destinations import key_option, opened, store_here
from modelstore.ops import backup as making
from modelstore.ops import backup_check as checking
from modelstore.ops import backup_prune as pruning
from modelstore.ops.backup_document import Backup, Missing, read_all
from modelstore.ops.backup_retention import BackupPolicy
from modelstore.ops.fsck import Subset, parse_subset
from modelstore.ops.retention import parse_age

_PARTLY = 3
_MAKE = "make"


class _Backup(click.Group):
    """Takes ``mstore backup DEST`` for ``mstore backup make DEST``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [word for word in args if not word.startswith("-")]
        own = any(word in self.commands for word in args[:1])
        if not own and words and not {"-h", "--help"} & set(args[:1]):
            args = [_MAKE, *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Backup, options_metavar="", subcommand_metavar="DEST | COMMAND DEST")
@click.pass_context
def backup(_: click.Context) -> None:
    """Back up the whole store to DEST, where only what is new moves; or look after backups.

    DEST is a remote of the store, a directory, s3://BUCKET/PREFIX, gs://... or az://...
    The options of making one are those of: mstore backup make --help
    """


def _age(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    return None if value is None else parse_age(value)


def _subset(_: click.Context, __: click.Parameter, value: str | None) -> Subset | None:
    return parse_subset(value) if value else None


_dest = click.argument("dest")


# --- making


@backup.command(_MAKE)
@_dest
@click.option(
    "--verify",
    type=click.Choice([one.value for one in making.Verify]),
    default="new",
    show_default=True,
    help="Compare the sizes of what is new; or read a tenth of that back; or everything.",
)
@click.option("--encrypt", is_flag=True, help="Encrypt a destination that is empty.")
@key_option
@click.option("-n", "--dry-run", is_flag=True, help="Show what would move, and change nothing.")
@common.store_options
@common.silent_option("Print only the name of the backup.")
@common.json_option
@click.pass_context
def make(
    ctx: click.Context, dest: str, verify: str, encrypt: bool, key_file: str | None, dry_run: bool
) -> int:
    """Back up the whole store to DEST.

    All models, registries, journals and settings, as they are at one moment. What DEST has is not
    sent again; commits go on meanwhile. What is damaged in the store is named and not sent, all
    else is saved, and the exit code is 3.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    with opened(store, dest, key_file, create=not dry_run, encrypt=encrypt) as remote:
        if dry_run:
            plan = making.plan_backup(store, remote)
            _show_plan(chosen, plan)
            return _PARTLY if plan.missing else 0
        with output.progress(chosen) as progress:
            done = making.backup(store, remote, verify=making.Verify(verify), progress=progress)
    if chosen.json:
        output.emit("backup", {"dry_run": False, **_made(done)})
    elif chosen.quiet:
        output.say(done.backup.name)
    else:
        versions = output.count(sum(1 for _ in done.backup.manifests()), "version")
        frames = output.count(done.frames, "new frame")
        output.say(f"{done.backup.name}: {versions}, {frames}, {output.size(done.size)} sent")
        if done.read:
            output.say(f"{output.size(done.read)} read back, and as sent")
    lost = making.incomplete(done.backup)
    if lost and not chosen.json:
        output.warn(lost)
        output.hint("see what is wrong with: mstore fsck")
    return _PARTLY if lost else 0


def _show_plan(chosen: common.Settings, plan: making.BackupPlan) -> None:
    if chosen.json:
        value = {
            "dry_run": True,
            "name": None,
            "versions": plan.versions,
            "frames": plan.frames,
            "size": plan.size,
            "read": 0,
            "missing": [_missing(one) for one in plan.missing],
        }
        output.emit("backup", value)
    elif not chosen.quiet:
        frames = output.count(plan.frames, "frame")
        output.say(f"{frames}, {output.size(plan.size)}, would be sent")
        for one in plan.missing:
            output.warn(f"blob '{one.blob}': {one.what}")


def _made(done: making.BackedUp) -> dict[str, Any]:
    return {
        "name": done.backup.name,
        "versions": sum(1 for _ in done.backup.manifests()),
        "frames": done.frames,
        "size": done.size,
        "read": done.read,
        "missing": [_missing(one) for one in done.backup.missing],
    }


def _missing(one: Missing) -> dict[str, Any]:
    return {"blob": one.blob, "what": one.what, "versions": list(one.versions)}


# --- looking


@backup.command("list")
@_dest
@key_option
@common.store_options
@common.json_option
@click.pass_context
def list_(ctx: click.Context, dest: str, key_file: str | None) -> None:
    """List the backups at DEST, oldest first."""
    chosen = common.settings(ctx)
    with opened(store_here(chosen), dest, key_file) as remote:
        found = read_all(remote)
    if chosen.json:
        output.emit("backup-list", [_row(one) for one in found])
    elif not found:
        output.hint(f"no backup yet; make one: mstore backup {dest}")
    else:
        head = ("backup", "made", "on", "models", "versions", "new", "")
        output.table([head, *map(_cells, found)], right=(3, 4, 5))


def _cells(one: Backup) -> tuple[str, ...]:
    versions = str(sum(1 for _ in one.manifests()))
    state = "" if one.complete else f"{output.count(len(one.missing), 'blob')} missing"
    sent = output.size(one.sizes.get("sent"))
    made = output.ago(one.created_at)
    return one.name, made, one.host, str(len(one.models)), versions, sent, state


def _row(one: Backup) -> dict[str, Any]:
    return {
        "name": one.name,
        "created_at": one.created_at,
        "host": one.host,
        "mstore": one.mstore,
        "complete": one.complete,
        "models": {
            str(model): {"seq": found.seq, "versions": list(found.versions)}
            for model, found in one.models.items()
        },
        "missing": [_missing(found) for found in one.missing],
        "sizes": dict(one.sizes),
    }


@backup.command(short_help="Check whether the backups at DEST could be restored.")
@_dest
@click.option(
    "--read-data-subset",
    metavar="N/T|X%|SIZE",
    callback=_subset,
    help="Also read every byte of a part of the frames: 1/7, 5% or 500M; without number, today's.",
)
@key_option
@common.store_options
@common.silent_option("Print nothing.")
@common.json_option
@click.pass_context
def check(
    ctx: click.Context, dest: str, read_data_subset: Subset | None, key_file: str | None
) -> int:
    """Check whether the backups at DEST could be restored; exit 1 if not.

    Reads their documents, every manifest, and the header of every frame that they need.
    """
    chosen = common.settings(ctx)
    with (
        opened(store_here(chosen), dest, key_file) as remote,
        output.progress(chosen) as progress,
    ):
        found = checking.check(remote, read_data_subset, progress)
    if chosen.json:
        output.emit("backup-check", _checked(found))
    elif not chosen.quiet:
        for one in found.problems:
            lost = f"; lost with it: {', '.join(one.versions)}" if one.versions else ""
            output.say(f"{one.backup}: {one.what}{lost}")
        for name in found.incomplete:
            output.hint(f"{name} is not complete: the store had lost something")
        backups, frames = (
            output.count(found.backups, "backup"),
            output.count(found.frames, "frame"),
        )
        read = f", {output.size(found.bytes_read)} read" if found.bytes_read else ""
        verdict = "sound" if found.sound else output.count(len(found.problems), "problem")
        output.say(f"{backups}, {frames}{read}: {verdict}" if found.backups else "no backup")
        if not found.backups:
            output.hint(f"make one: mstore backup {dest}")
    return 0 if found.sound else 1


def _checked(found: checking.CheckedBackups) -> dict[str, Any]:
    return {
        "sound": found.sound,
        "backups": found.backups,
        "frames": found.frames,
        "bytes_read": found.bytes_read,
        "problems": [
            {"backup": one.backup, "versions": list(one.versions), "what": one.what}
            for one in found.problems
        ],
        "incomplete": list(found.incomplete),
    }


@backup.command(short_help="Tell how old the last complete backup at DEST is.")
@_dest
@click.option(
    "--older-than",
    default="2d",
    show_default=True,
    metavar="TIME",
    callback=_age,
    help="Exit 1 if the last complete backup is older: 24h, 2d, 1w.",
)
@key_option
@common.store_options
@common.silent_option("Print nothing.")
@common.json_option
@click.pass_context
def status(ctx: click.Context, dest: str, older_than: timedelta, key_file: str | None) -> int:
    """Tell how old the last complete backup at DEST is; exit 1 if it is too old, or there is none."""
    chosen = common.settings(ctx)
    with opened(store_here(chosen), dest, key_file) as remote:
        found = checking.status(remote)
    stale = found.is_older_than(older_than)
    if chosen.json:
        value = {
            "stale": stale,
            "newest": None if found.newest is None else found.newest.name,
            "complete": None if found.good is None else found.good.name,
            "age": None if found.age is None else int(found.age.total_seconds()),
            "future": list(found.future),
        }
        output.emit("backup-status", value)
    elif not chosen.quiet:
        if found.good is None:
            output.say("there is no complete backup")
        else:
            output.say(f"{found.good.name}: {output.ago(found.good.created_at)}")
        for name in found.future:
            output.warn(f"{name} is dated in the future, by a clock that was wrong")
        if stale:
            output.hint(f"make one: mstore backup {dest}")
    return 1 if stale else 0


# --- pruning


_count = click.IntRange(min=0)


@backup.command(short_help="Remove the backups at DEST that no rule keeps.")
@_dest
@click.option("--keep-last", type=_count, metavar="N", help="Keep the newest N.")
@click.option("--keep-daily", type=_count, metavar="N", help="... the newest of N days.")
@click.option("--keep-weekly", type=_count, metavar="N", help="... the newest of N weeks.")
@click.option("--keep-monthly", type=_count, metavar="N", help="... the newest of N months.")
@click.option(
    "--keep-within",
    metavar="TIME",
    callback=_age,
    help="... all at most so much older than the newest: 24h, 7d, 3w.",
)
@key_option
@click.option("-n", "--dry-run", is_flag=True, help="Show what would go, and change nothing.")
@common.store_options
@common.silent_option("Print nothing.")
@common.json_option
@click.pass_context
def prune(
    ctx: click.Context, /, dest: str, key_file: str | None, dry_run: bool, **rules: Any
) -> None:
    """Remove the backups at DEST that no rule keeps, and what nothing needs any more.

    The newest stays always. Frames that no backup and no pushed version needs are marked, and go
    with a prune a day later, so that whoever is sending just now loses nothing. Where anything
    cannot be read, no frame is removed.
    """
    chosen = common.settings(ctx)
    policy = BackupPolicy(**{name.removeprefix("keep_"): rule for name, rule in rules.items()})
    with opened(store_here(chosen), dest, key_file) as remote:
        plan = pruning.plan_prune(remote, policy)
        done = None if dry_run else pruning.prune(remote, plan)
    if chosen.json:
        output.emit("backup-prune", _pruned(plan, done))
        return
    if chosen.quiet:
        return
    if plan.verdicts:
        word = "goes" if done is None else "removed"
        rows = [
            (one.backup.name, "stays" if one.reasons else word, ", ".join(one.reasons))
            for one in plan.verdicts
        ]
        output.table([("backup", "", "why"), *rows])
        output.say("")
    if done is None:
        size = output.size(sum(plan.unneeded.values()))
        output.say(f"{output.count(len(plan.unneeded), 'frame')}, {size}, would not be needed")
        return
    output.say(f"{output.count(done.frames, 'frame')} removed, {output.size(done.freed)} freed")
    if done.waiting:
        waiting = output.count(done.waiting, "frame")
        output.hint(
            f"{waiting}, {output.size(done.size)}, marked; a prune a day later removes them"
        )


def _pruned(plan: pruning.PrunePlan, done: pruning.Pruned | None) -> dict[str, Any]:
    dry_run = done is None
    if done is None:
        names = tuple(one.name for one in plan.dropped)
        done = pruning.Pruned(names, 0, 0, len(plan.unneeded), sum(plan.unneeded.values()))
    return {
        "dry_run": dry_run,
        "removed": list(done.backups),
        "backups": [
            {"name": one.backup.name, "kept_by": list(one.reasons)} for one in plan.verdicts
        ],
        "frames": done.frames,
        "freed": done.freed,
        "waiting": done.waiting,
        "waiting_size": done.size,
    }
