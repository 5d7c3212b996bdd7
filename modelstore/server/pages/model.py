"""The pages of one line: its versions, metrics, lineage, costs and journal."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from modelstore.errors import StoreError
from modelstore.names import ModelName, is_version
from modelstore.server.context import Context
from modelstore.server.pages import charting
from modelstore.server.pages.finding import find_model, model_url
from modelstore.server.pages.journals import newest
from modelstore.server.pages.paging import paging
from modelstore.server.pages.rendering import render
from modelstore.server.pages.rows import LAST, Rows, is_number, totals
from modelstore.state import Entry, State

_PAGE = 50
"""Versions, or changes, of a page."""

_MOST_DRAWN = 200
"""Versions that a chart of metrics shows, the newest."""

_MOST_CURVES = 8
_MOST_CHARTS = 6
_MOST_NODES = 150
_MOST_BARS = 60


async def versions(context: Context, request: Request) -> Response:
    """Answer ``/models/{model}``: its versions, the newest first."""
    values = await context.run(_line, context, request)
    values |= await context.run(_versions, request, values)
    return render(context, request, "model_versions.html", **values)


async def metrics(context: Context, request: Request) -> Response:
    """Answer ``…/metrics``: metrics across versions, and loss curves laid over each other."""
    values = await context.run(_line, context, request)
    values |= await context.run(_metrics, context, request, values)
    return render(context, request, "model_metrics.html", **values)


async def lineage(context: Context, request: Request) -> Response:
    """Answer ``…/lineage``: which version was made from which."""
    values = await context.run(_line, context, request)
    values |= await context.run(_lineage, values)
    return render(context, request, "model_lineage.html", **values)


async def storage(context: Context, request: Request) -> Response:
    """Answer ``…/storage``: what each version cost."""
    values = await context.run(_line, context, request)
    values |= await context.run(_storage, context, request, values)
    return render(context, request, "model_storage.html", **values)


async def journal(context: Context, request: Request) -> Response:
    """Answer ``…/journal``: every change, the newest first."""
    values = await context.run(_line, context, request)
    said = request.query_params.get("before", "")
    before = int(said) if said.isascii() and said.isdecimal() and len(said) < 12 else None
    model = values["model"]
    changes = await context.run(newest, context.store, model, _PAGE + 1, before)
    more = changes[_PAGE - 1].seq if len(changes) > _PAGE else 0
    values |= {"changes": changes[:_PAGE], "more": more, "before": before}
    return render(context, request, "model_journal.html", **values)


def _line(context: Context, request: Request) -> dict[str, Any]:
    """Return what the head of every page of a line says."""
    model = find_model(context, request.path_params["model"])
    state = context.store.state(model)
    entries = state.entries()
    return {
        "model": model,
        "base": model_url(model),
        "state": state,
        "entries": entries,
        "rows": Rows(model, state),
        "cost": totals(entries),
        "active": state.active,
        "can_roll_back": len(state.history) > 1,
        "description": str(state.document.get("description") or ""),
        "notice": state.notice,
    }


def _versions(request: Request, line: dict[str, Any]) -> dict[str, Any]:
    entries = line["entries"][::-1]
    part = paging(request, len(entries), _PAGE)
    shown = [line["rows"].row(entry) for entry in entries[part.start : part.stop]]
    return {
        "part": part,
        "shown": shown,
        "largest": max((row.logical or 0 for row in shown), default=0),
    }


# --- metrics


def _metrics(context: Context, request: Request, line: dict[str, Any]) -> dict[str, Any]:
    entries: list[Entry] = line["entries"][-_MOST_DRAWN:]
    rows = [line["rows"].row(entry) for entry in entries]
    names: dict[str, int] = {}
    for row in rows:
        for name, value in row.metrics.items():
            if is_number(value):
                names[name] = names.get(name, 0) + 1
    chosen = [name for name in names if name not in LAST][:_MOST_CHARTS]
    charts = [charting.metric(line["base"], name, rows) for name in chosen]
    part = paging(request, len(rows), _PAGE)
    shown = rows[::-1][part.start : part.stop]
    return {
        "charts": charts,
        "names": list(names)[:8],
        "left_out": len(names) - len(chosen),
        "drawn": len(rows),
        "part": part,
        "shown": shown,
        **_curves(context, request, line),
    }


def _curves(context: Context, request: Request, line: dict[str, Any]) -> dict[str, Any]:
    state: State = line["state"]
    asked = [text for text in request.query_params.getlist("v") if is_version(text)]
    entries = [entry for entry in map(state.entry, asked[:_MOST_CURVES]) if entry is not None]
    if not asked:
        entries = _with_curve(context, line)
    curves = {}
    without = []
    for entry in entries:
        curve = _curve(context, line["model"], entry)
        if curve:
            curves[str(entry.version)] = curve
        else:
            without.append(str(entry.version))
    return {
        "asked": asked,
        "curves": curves,
        "without": without,
        "curve_chart": charting.curves(curves) if curves else "",
        "curve_data": charting.curve_data(curves) if curves else [],
        "most_curves": _MOST_CURVES,
    }


def _with_curve(context: Context, line: dict[str, Any]) -> list[Entry]:
    """Return the newest few versions that recorded a curve, looking at a few more."""
    newest_first = line["entries"][::-1][: 2 * _MOST_CURVES]
    found = [entry for entry in newest_first if _curve(context, line["model"], entry)]
    return found[:3][::-1]


def _curve(context: Context, model: ModelName, entry: Entry) -> charting.Curve:
    try:
        return context.manifest(model, entry).curve
    except StoreError:
        return ()


# --- lineage and costs


def _lineage(line: dict[str, Any]) -> dict[str, Any]:
    entries: list[Entry] = line["entries"][-_MOST_NODES:]
    rows = [line["rows"].row(entry) for entry in entries]
    return {
        "chart": charting.descent(str(line["model"]), line["base"], line["state"].base_model, rows),
        "shown": rows[::-1][:_PAGE],
        "drawn": len(rows),
    }


def _storage(context: Context, request: Request, line: dict[str, Any]) -> dict[str, Any]:
    entries = line["entries"][::-1]
    part = paging(request, len(entries), _PAGE)
    shown = [line["rows"].row(entry) for entry in entries[part.start : part.stop]]
    bars = [line["rows"].row(entry) for entry in entries[:_MOST_BARS]][::-1]
    return {
        "part": part,
        "shown": shown,
        "largest": max((row.logical or 0 for row in shown), default=0),
        "chart": charting.costs(line["base"], bars) if bars else "",
    }
