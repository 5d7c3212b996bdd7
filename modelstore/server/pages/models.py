"""The pages of the whole store: its models, what they take, and what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from modelstore.blobs.closure import stamp_of
from modelstore.errors import StoreError
from modelstore.names import ModelName
from modelstore.server.context import Context
from modelstore.server.pages.journals import Happened, newest
from modelstore.server.pages.rendering import render
from modelstore.server.pages.rows import Totals, totals
from modelstore.server.pages.words import moment_of
from modelstore.state import State

_CHANGES = 100
"""Changes that the journal of the store shows."""


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A line in the list of models.

    Attributes:
        model: its name.
        active: its ACTIVE version, or "".
        base_model: what it starts from.
        cost: of all its versions.
        changed: when anything was last changed.
        problem: why nothing else is known of it, or "".
    """

    model: ModelName
    active: str = ""
    base_model: str = ""
    cost: Totals = Totals(0, 0, 0)  # noqa: RUF009  (it is frozen)
    changed: str = ""
    problem: str = ""


async def models(context: Context, request: Request) -> Response:
    """Answer ``/``: the models of the store."""
    rows = await context.run(_rows, context)
    cost = _together(rows)
    return render(context, request, "models.html", rows=rows, cost=cost)


async def storage(context: Context, request: Request) -> Response:
    """Answer ``/storage``: what the store takes on disk, and what for."""
    values = await context.run(_storage, context)
    return render(context, request, "storage.html", **values)


async def journal(context: Context, request: Request) -> Response:
    """Answer ``/journal``: what was done last, in any line."""
    changes = await context.run(_changes, context)
    return render(context, request, "journal.html", changes=changes, most=_CHANGES)


def _rows(context: Context) -> list[ModelRow]:
    return [_row(context, model) for model in context.store.models()]


def _row(context: Context, model: ModelName) -> ModelRow:
    try:
        state = context.store.state(model)
    except StoreError as error:
        return ModelRow(
            model, problem=f"{error.message} — {error.hint}" if error.hint else error.message
        )
    return ModelRow(
        model,
        state.active,
        state.base_model,
        totals(state.entries()),
        _changed(context, model, state),
    )


def _changed(context: Context, model: ModelName, state: State) -> str:
    last = newest(context.store, model, 1)
    entries = state.entries()
    return last[0].at if last else (entries[-1].text("created_at") if entries else "")


def _together(rows: list[ModelRow]) -> Totals:
    return Totals(
        sum(row.cost.versions for row in rows),
        sum(row.cost.logical for row in rows),
        sum(row.cost.stored for row in rows),
    )


def _storage(context: Context) -> dict[str, Any]:
    blobs = context.store.blobs
    stamps = (stamp_of(blobs.path(digest)) for digest in blobs.iter_digests())
    sizes = [stamp[-1] for stamp in stamps if stamp is not None]
    trash = blobs.trash().content()
    rows = _rows(context)
    cost = _together(rows)
    return {
        "rows": rows,
        "cost": cost,
        "frames": len(sizes),
        "largest": max(sizes, default=0),
        "stored": sum(sizes),
        "trashed": len(trash),
        "trash": sum(one.size() for one in trash),
    }


def _changes(context: Context) -> list[Happened]:
    found: list[Happened] = []
    for model in context.store.models():
        found += newest(context.store, model, _CHANGES)
    found.sort(key=lambda one: (_when(one.at), one.seq), reverse=True)
    return found[:_CHANGES]


def _when(text: str) -> float:
    moment = moment_of(text)
    return moment.timestamp() if moment is not None else 0.0
