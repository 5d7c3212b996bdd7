"""``mstore gc``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from modelstore.cli import common, output
from modelstore.ops.gc import Collected, GcPlan, plan_gc
from modelstore.ops.gc import gc as collect
from modelstore.ops.resolve import Context, resolve_model
from modelstore.ops.retention import Best, Policy, parse_age, parse_best


def _parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that parses an option's value, or each of its values."""

    def callback(_: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if parameter.multiple:
            return tuple(map(parse, value))
        return None if value is None else parse(value)

    return callback


@click.command()
@click.option(
    "--keep-last",
    type=click.IntRange(min=0),
    metavar="N",
    help="Of every model remove all versions but the newest N.",
)
@click.option(
    "--keep-within",
    metavar="TIME",
    callback=_parsed(parse_age),
    help="... but those at most so much older than the newest: 24h, 7d, 3w.",
)
@click.option(
    "--keep-best",
    metavar="N:METRIC[:min|max]",
    multiple=True,
    callback=_parsed(parse_best),
    help="... but the best N by a metric. The lowest are the best where its name has loss or "
    "perplexity in it, else the highest. Models without the metric keep all. May be given several "
    "times.",
)
@click.option("--purge-now", is_flag=True, help="Empty the trash, too, and keep nothing there.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would go, and change nothing.")
@common.store_options
@common.silent_option("Print nothing.")
@common.json_option
@click.pass_context
def gc(
    ctx: click.Context,
    keep_last: int | None,
    keep_within: timedelta | None,
    keep_best: tuple[Best, ...],
    purge_now: bool,
    dry_run: bool,
) -> None:
    """Take away what no version needs.

    It goes to the trash, and from there for good with the first gc that runs 14 days later.
    Without --keep-... no version is removed. With some of these, of every model (or that of -M) a
    version stays if any of them keeps it, or if it is ACTIVE, has an alias, is being trained from
    or has local changes; the others are removed as mstore rm does. Where anything cannot be read,
    nothing is taken away.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    policy = Policy(keep_last, keep_within, keep_best)
    model = chosen.model_name()
    if model is not None:
        resolve_model(store, Context(model))  # a mistyped name must not look like a clean store
    plan = plan_gc(store, policy, model=model, purge_now=purge_now)
    done = None if dry_run else collect(store, plan)
    if chosen.json:
        output.emit("gc", _as_json(plan, done))
        return
    if not chosen.quiet:
        _show_versions(plan, done)
        _show(plan) if done is None else _report(done)
    for path in plan.unknown:
        output.warn(f"'{path}' is not mstore's; it was left alone")


def _show_versions(plan: GcPlan, done: Collected | None) -> None:
    if not plan.verdicts:
        return
    gone = {str(one) for one in (plan.dropped if done is None else done.versions)}
    head = ("version", "", "why")
    word = "goes" if done is None else "removed"
    rows = [
        (str(v.resolved), word if str(v.resolved) in gone else "stays", ", ".join(v.reasons))
        for v in plan.verdicts
    ]
    output.table([head, *rows])
    output.say("")


def _show(plan: GcPlan) -> None:
    frames = output.count(len(plan.frames), "frame")
    where = "go for good" if plan.purge_now else "go to the trash"
    output.say(f"{frames}, {output.size(sum(plan.frames.values()))}, would {where}")
    purged = output.size(sum(plan.purged.values()))
    output.say(f"{len(plan.purged)} in the trash, {purged}, would be removed for good")
    if plan.debris:
        output.say(f"{output.count(len(plan.debris), 'leftover')} of killed processes would go")


def _report(done: Collected) -> None:
    if done.purged or done.freed:
        output.say(f"{output.size(done.freed)} freed")
    moved = output.count(done.frames, "frame")
    output.say(f"{moved} taken out of use, {output.size(done.size)}")
    if done.debris:
        output.say(f"{output.count(done.debris, 'leftover')} of killed processes removed")
    if done.waiting:
        waiting = output.size(done.waiting)
        output.hint(f"{waiting} in the trash; free them now with: mstore gc --purge-now")


def _as_json(plan: GcPlan, done: Collected | None) -> dict[str, object]:
    """Return what would be done, or what was done."""
    if done is None:
        frames, size = len(plan.frames), sum(plan.frames.values())
        done = Collected(
            versions=tuple(plan.dropped),
            frames=frames,
            size=size,
            purged=len(plan.purged),
            freed=sum(plan.purged.values()),
            debris=len(plan.debris),
        )
        dry_run = True
    else:
        dry_run = False
    return {
        "dry_run": dry_run,
        "removed": [str(one) for one in done.versions],
        "versions": [{"ref": str(v.resolved), "kept_by": list(v.reasons)} for v in plan.verdicts],
        "frames": done.frames,
        "size": done.size,
        "purged": done.purged,
        "freed": done.freed,
        "debris": done.debris,
        "trash": done.waiting,
        "unknown": [str(path) for path in plan.unknown],
    }
