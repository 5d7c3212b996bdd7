"""``mstore adopt``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from modelstore.cli import common, output
from modelstore.errors import NoStoreError, PartialError
from modelstore.ops.adopt import Adopted
from modelstore.ops.adopt import adopt as take_over
from modelstore.ops.adopt_plan import AdoptPlan, ModelPlan, VersionPlan
from modelstore.ops.survey import plan_adopt
from modelstore.registry import VIEW

_REGISTRIES = {
    "foreign": "a registry of another tool",
    "corrupt": "a registry that cannot be read",
    "none": "no registry",
    "mstore": "adopted before",
}


@click.command()
@click.argument("directory", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would happen.")
@click.option("-f", "--force", is_flag=True, help="Begin although the worst case does not fit.")
@click.option("--follow-symlinks", is_flag=True, help="Take what symlinks outside lead to.")
@common.store_options
@common.quiet_option
@common.json_option
@click.pass_context
def adopt(
    ctx: click.Context, directory: Path | None, dry_run: bool, force: bool, follow_symlinks: bool
) -> None:
    """Take over a directory of models made without mstore.

    Every version whose files are there is stored, and stays where it is; nothing is deleted. A
    version that is only registered stays listed, as missing. Running it again takes what is new,
    what somebody wrote into a model_registry.json since, and brings back content that the store
    has lost from directories that still hold it.
    """
    chosen = common.settings(ctx)
    root = _root(chosen, directory)
    plan = plan_adopt(root, follow_symlinks=follow_symlinks)
    if dry_run:
        _report(chosen, root, plan, None)
        return
    with output.progress(chosen) as progress:
        done = take_over(root, plan, progress, force=force)
    _report(chosen, root, plan, done)
    if done.failed:
        ctx.exit(PartialError.exit_code)


def _root(chosen: common.Settings, directory: Path | None) -> Path:
    """Return the directory to adopt: as given, else the store here, else the models around here."""
    if directory is not None:
        return directory
    if chosen.store or os.environ.get("MSTORE_STORE"):
        return chosen.root()
    try:
        return chosen.root()
    except NoStoreError:
        here = Path.cwd()
    for place in (here, *here.parents):
        if any(place.glob(f"*/{VIEW}")):
            return place
        if (place / "tuned_models").is_dir():
            return place / "tuned_models"
    raise NoStoreError(f"there is no tuned_models at or above '{here}'", "mstore adopt DIR")


def _report(chosen: common.Settings, root: Path, plan: AdoptPlan, done: Adopted | None) -> None:
    if chosen.json:
        output.emit("adopt", _data(plan, done))
        return
    for remark in (remark for model in plan.models for remark in model.remarks):
        output.warn(remark)
    if chosen.quiet:
        for made in done.versions if done else ():
            output.say(f"{made.model}@{made.version}")
        for healed in done.healed if done else ():
            output.say(healed.ref)
    else:
        _tell(root, plan, done)
    for version, problem in _problems(plan, done):
        output.warn(f"{version} was not taken: {problem}" if done else f"{version}: {problem}")


def _tell(root: Path, plan: AdoptPlan, done: Adopted | None) -> None:
    for model in plan.models:
        _model(model, done)
    for ignored in plan.ignored:
        output.hint(f"left alone: {ignored.path.relative_to(plan.root)} ({ignored.why})")
    if not plan.pending:
        output.say(f"Nothing to adopt in {root}")
    elif done is None:
        _outlook(plan)
    else:
        _summary(done)


def _problems(plan: AdoptPlan, done: Adopted | None) -> list[tuple[str, str]]:
    if done is not None:
        return [(failed.ref, failed.message) for failed in done.failed]
    return [
        (f"{model.model}@{version.version}", version.problem)
        for model in plan.models
        for version in model.versions
        if version.problem
    ]


def _model(model: ModelPlan, done: Adopted | None) -> None:
    if not model.pending and not model.versions:
        return
    output.say(f"{model.model} ({_REGISTRIES[model.registry]})")
    rows = [
        (" ", str(v.version), _what(model, v, done), output.size(v.size) if v.size else "")
        for v in model.versions
    ]
    if rows:
        output.table(rows, right=(3,))
    if model.edits.lines():
        taken = "taken over" if done else "to take over"
        output.say(f"  {taken} from the edited {VIEW}: {', '.join(model.edits.lines())}")
    elif model.edits.in_place and done is None:
        output.say(f"  the edited {VIEW} says nothing to take over; it is to be written again")
    for version in model.versions:
        if version.tree.skipped:
            skipped = ", ".join(version.tree.skipped)
            output.hint(f"skipped in {model.model}/{version.version}: {skipped}")
    if model.active and done is None:
        output.say(f"  ACTIVE is {model.active}")
    elif done is None and any(not v.missing for v in model.versions) and model.fresh:
        output.say("  no version is recorded as active; the first that is stored becomes ACTIVE")


def _what(model: ModelPlan, version: VersionPlan, done: Adopted | None) -> str:
    ref = f"{model.model}@{version.version}"
    if done is not None:
        back = next((healed for healed in done.healed if healed.ref == ref), None)
        if back is not None:
            return f"{output.count(back.blobs, 'blob')} brought back"
        made = next((m for m in done.versions if f"{m.model}@{m.version}" == ref), None)
        if made is not None:
            files = output.count(made.files, "file")
            return f"{files}, {output.size(made.stored)} new in the store"
        if any(failed.ref == ref for failed in done.failed):
            return "not taken"
    if version.problem:
        return "cannot be taken"
    if version.missing:
        return "listed; its files are missing"
    files = output.count(len(version.tree.files), "file")
    if version.lost:
        return f"content to bring back: {output.count(version.lost, 'blob')}, {files}"
    return f"{files} to store"


def _outlook(plan: AdoptPlan) -> None:
    output.say(
        f"Takes up to {output.size(plan.need)}, if nothing is alike; "
        f"{output.size(plan.free)} are free. Nothing was changed."
    )


def _summary(done: Adopted) -> None:
    size = sum(made.size for made in done.versions)
    stored = sum(made.stored for made in done.versions)
    if done.healed:
        blobs = output.count(sum(healed.blobs for healed in done.healed), "blob")
        versions = output.count(len(done.healed), "version")
        output.say(f"Brought back {blobs} of {versions}")
    if done.versions or done.models:
        output.say(
            f"Adopted {output.count(len(done.versions), 'version')}, {output.size(size)}; "
            f"{output.size(stored)} new in the store"
        )
    if done.active:
        output.say(f"ACTIVE: {', '.join(done.active)}")
    if done.releasable:
        output.hint(
            f"the files are still where they were; releasing them would free "
            f"{output.size(done.releasable)}: mstore checkout --release REF"
        )


def _data(plan: AdoptPlan, done: Adopted | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "path": str(plan.root),
        "dry_run": done is None,
        "need": plan.need,
        "free": plan.free,
        "models": [_model_data(model) for model in plan.models],
        "ignored": [{"path": str(i.path), "why": i.why} for i in plan.ignored],
    }
    if done is not None:
        data |= {
            "adopted": [{"ref": f"{m.model}@{m.version}", **asdict(m)} for m in done.versions],
            "missing": list(done.missing),
            "failed": [asdict(failed) for failed in done.failed],
            "active": list(done.active),
            "releasable": done.releasable,
            "healed": {healed.ref: healed.blobs for healed in done.healed},
        }
    return data


def _model_data(model: ModelPlan) -> dict[str, Any]:
    return {
        "model": str(model.model),
        "registry": model.registry,
        "active": model.active or None,
        "remarks": list(model.remarks),
        "edits": model.edits.lines(),
        "versions": [
            {
                "version": str(version.version),
                "directory": str(version.directory) if version.directory else None,
                "action": _action(version),
                "files": len(version.tree.files),
                "size": version.size,
                "lost": version.lost,
                "skipped": list(version.tree.skipped),
                "problem": version.problem,
            }
            for version in model.versions
        ],
    }


def _action(version: VersionPlan) -> str:
    if version.problem:
        return "refuse"
    if version.lost:
        return "heal"
    return "list" if version.missing else "store"
