"""``mstore status``."""

from __future__ import annotations

import click

from modelstore.cli import common, complete, output
from modelstore.ops.resolve import resolve_model
from modelstore.ops.status import ModelStatus, SeenAt, Status, WorkingCopy
from modelstore.ops.status import status as look

_MARKS = (("M", "modified"), ("D", "missing"), ("?", "added"))


@click.command()
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=complete.models)
@click.option("-s", "--short", is_flag=True, help="Only the changed files, one per line.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything was changed.")
@common.store_options
@common.json_option
@click.pass_context
def status(ctx: click.Context, name: str | None, short: bool, exit_code: bool) -> int:
    """Show what is checked out, and what was changed there.

    Marks: M modified, D deleted, ? not in the version. What is said of remotes is what the last
    push, fetch or pull saw there.
    """
    chosen = common.settings(ctx)
    if name:
        chosen.model = name
    store = chosen.open()
    only = resolve_model(store, chosen.context()) if chosen.model_name() else None
    found = look(store, only)
    if chosen.json:
        output.emit("status", _as_json(found))
    elif short:
        for copy in found.copies:
            _changes(copy, f"{output.place(copy.path)}/")
    else:
        for model in found.models:
            _model(model)
        for copy in found.copies:
            state = "clean" if copy.clean else "changed"
            output.say(f"{output.place(copy.path)}: {copy.ref}, {state}")
            _changes(copy, "")
        if any(not copy.clean for copy in found.copies):
            output.hint(
                "commit changes with: mstore commit DIR; drop them with: mstore checkout -f"
            )
    return int(exit_code and not found.clean)


def _model(model: ModelStatus) -> None:
    if model.notice:
        output.warn(model.notice)
    if not model.versions:
        output.say(f"{model.model}: no versions yet")
    else:
        many = output.count(model.versions, "version")
        where = f"ACTIVE {model.active or 'not set'}, latest {model.latest}"
        output.say(f"{model.model}: {many}, {where}")
    for at in model.remotes:
        output.say(f"  {at.remote}, as last seen: {_compared(at)}")
    if model.absent:
        output.warn(f"{model.model}: no content here for {', '.join(model.absent)}")
    if model.unregistered:
        names = ", ".join(model.unregistered)
        output.warn(f"{model.model}: not registered: {names}; take over with: mstore adopt")
    if model.without_weights:
        names = ", ".join(model.without_weights)
        output.warn(f"{model.model}: neither registered nor with weights in it: {names}")


def _compared(at: SeenAt) -> str:
    if at.same:
        return "the same"
    ways = (
        (at.ahead, "to push"),
        (at.behind, "to pull"),
    )
    rows = [f"{', '.join(names)} {what}" for names, what in ways if names]
    return "; ".join(rows) or "the same versions, another registry"


def _changes(copy: WorkingCopy, prefix: str) -> None:
    for mark, name in _MARKS:
        for path in getattr(copy, name):
            output.say(f"  {mark} {prefix}{path}")


def _as_json(found: Status) -> dict[str, object]:
    return {
        "models": [
            {
                "model": m.model,
                "active": m.active or None,
                "latest": m.latest or None,
                "versions": m.versions,
                "absent": list(m.absent),
                "unregistered": list(m.unregistered),
                "without_weights": list(m.without_weights),
                "notice": m.notice,
                "remotes": [
                    {
                        "remote": at.remote,
                        "same": at.same,
                        "ahead": list(at.ahead),
                        "behind": list(at.behind),
                    }
                    for at in m.remotes
                ],
            }
            for m in found.models
        ],
        "checkouts": [
            {
                "path": str(c.path),
                "ref": c.ref,
                "clean": c.clean,
                "modified": list(c.modified),
                "missing": list(c.missing),
                "added": list(c.added),
            }
            for c in found.copies
        ],
    }
