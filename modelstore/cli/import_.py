"""``mstore import``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from modelstore.cli import common, output
from modelstore.ops.hub_cache import cache_place
from modelstore.ops.import_model import HUB, Imported, ImportPlan, Places, plan_import, run_import
from modelstore.ops.ollama import usual_places


@click.command(name="import")
@click.argument("source", metavar="SRC")
@click.option("-m", "--message", default="", help="Why; default: where it is from.")
@click.option("--all", "everything", is_flag=True, help="Every revision of it, oldest first.")
@click.option(
    "--from",
    "place",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The cache, or Ollama's directory of models; default: where these tools have it.",
)
@click.option("--activate", is_flag=True, help="Make it ACTIVE.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would come, and change nothing.")
@common.store_options
@common.quiet_option
@common.json_option
@click.pass_context
def import_(ctx: click.Context, /, source: str, message: str, **given: Any) -> None:
    """Make a version of what Hugging Face or Ollama have on this machine.

    SRC is hf:OWNER/NAME[@REVISION], a model in the Hugging Face cache; ollama:NAME[:TAG], a model of
    Ollama's; a GGUF file; or the directory of a model, or of a snapshot, in a Hugging Face cache.

    Nothing is downloaded. What has a digest there is held against it. The model is called after the
    source unless -M says otherwise; what was imported before is not imported again.
    """
    chosen = common.settings(ctx)
    store = chosen.open()
    plan = plan_import(
        store,
        source,
        _places(source, given["place"]),
        model=chosen.model_name(),
        everything=given["everything"],
    )
    for warning in () if chosen.json else _warnings(plan):
        output.warn(warning)
    if given["dry_run"]:
        _show(chosen, plan)
        return
    with output.progress(chosen) as progress:
        done = run_import(
            store,
            plan,
            message=message,
            author=os.environ.get("MSTORE_AUTHOR", ""),
            activate=given["activate"],
            progress=progress,
        )
    _report(chosen, plan, done)


def _places(source: str, place: Path | None) -> Places:
    hub, ollama = cache_place(os.environ, Path.home()), usual_places(os.environ, Path.home())
    if place is None:
        return Places(hub, ollama)
    return Places(place, ollama) if source.startswith(HUB) else Places(hub, (place,))


def _warnings(plan: ImportPlan) -> list[str]:
    return [warning for row in plan.rows for warning in row.source.warnings]


def _show(chosen: common.Settings, plan: ImportPlan) -> None:
    versions: list[dict[str, object]] = [
        {
            "ref": None if row.known is None else str(row.known),
            "source": row.source.origin,
            "revision": row.source.revision,
            "names": list(row.source.names),
            "created": False,
            "files": row.source.files,
            "size": row.source.size,
            "stored": 0,
        }
        for row in plan.rows
    ]
    if chosen.json:
        _emit(plan, versions, _warnings(plan), dry_run=True)
        return
    for row in plan.rows:
        what = f"{output.count(row.source.files, 'file')}, {output.size(row.source.size)}"
        if row.known is not None:
            output.say(f"{row.source.title}: is {row.known} already")
        else:
            output.say(f"{row.source.title}: {what} would become a version of {plan.model}")


def _report(chosen: common.Settings, plan: ImportPlan, done: list[Imported]) -> None:
    warnings = [warning for one in done if one.made for warning in one.made.warnings]
    if chosen.json:
        _emit(plan, [_row(one) for one in done], [*_warnings(plan), *warnings], dry_run=False)
        return
    for warning in warnings:
        output.warn(warning)
    for one in done:
        if chosen.quiet:
            output.say(one.ref)
        elif one.made is None or not one.made.created:
            output.say(f"{one.ref} is {one.source.title} already")
        else:
            made = one.made
            active = ", ACTIVE" if made.active else ""
            output.say(f"{one.ref}  {made.id[:12]}{active}")
            output.say(
                f"  {one.source.title}: {output.count(made.files, 'file')}, "
                f"{output.size(made.size)}; {output.size(made.stored)} new in the store"
            )
            if made.skipped:
                output.hint(f"skipped: {', '.join(made.skipped)}")


def _row(one: Imported) -> dict[str, object]:
    made = one.made
    return {
        "ref": one.ref,
        "source": one.source.origin,
        "revision": one.source.revision,
        "names": list(one.source.names),
        "created": made is not None and made.created,
        "files": one.source.files,
        "size": one.source.size,
        "stored": 0 if made is None else made.stored,
    }


def _emit(
    plan: ImportPlan, versions: list[dict[str, object]], warnings: list[str], *, dry_run: bool
) -> None:
    data = {"model": plan.model, "dry_run": dry_run, "versions": versions, "warnings": warnings}
    output.emit("import", data)
