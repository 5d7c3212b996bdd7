"""Any two versions beside each other, from their parameters down to their tensors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from modelstore.errors import StoreError
from modelstore.ops.change_map import change_chart
from modelstore.ops.diff import MODIFIED, Difference, TensorChange, diff
from modelstore.ops.resolve import resolve
from modelstore.server.context import Context
from modelstore.server.pages.finding import Found, find_model, version_url
from modelstore.server.pages.rendering import query, render
from modelstore.server.pages.rows import Rows
from modelstore.server.pages.settings_of import Setting, settings_of, tokenizer_of

_WAIT_SECONDS = 2.0
"""How long a page waits for the tensors, before it says that they are being compared."""

_REFS = 300
"""Versions that the fields offer."""

_MOST_TENSORS = 2000
"""Rows of the table of tensors."""

_MOST_REF = 200


async def compare(context: Context, request: Request) -> Response:
    """Answer ``/compare``: two versions, or the form that takes them."""
    names = [request.query_params.get(name, "").strip()[:_MOST_REF] for name in ("a", "b")]
    form: dict[str, Any] = {
        "a": names[0],
        "b": names[1],
        "every": bool(request.query_params.get("every")),
        "refs": await context.run(_refs, context),
    }
    if not all(names):
        return render(context, request, "compare_form.html", problem="", **form)
    try:
        before, after = [await context.run(_find, context, name) for name in names]
    except StoreError as error:
        problem = f"{error.message}. {error.hint}" if error.hint else error.message
        return render(context, request, "compare_form.html", 404, problem=problem, **form)
    values = await context.run(_compared, context, before, after)
    values |= await _tensors(context, before, after)
    values["again"] = f"/compare{query(a=names[0], b=names[1], every='1' if form['every'] else '')}"
    return render(context, request, "compare.html", **form, **values)


async def chosen(context: Context, request: Request) -> Response:
    """Answer ``/models/{model}/compare``, to which ticked rows lead: the older one comes first."""
    model = await context.run(find_model, context, request.path_params["model"])
    state = await context.run(context.store.state, model)
    ticked = [state.entry(text) for text in request.query_params.getlist("v")[:10]]
    entries = sorted((entry for entry in ticked if entry is not None), key=lambda one: one.seq)
    refs = [f"{model}@{entry.version}" for entry in entries]
    first, last = (refs[0], refs[-1]) if len(refs) > 1 else (next(iter(refs), ""), "")
    return RedirectResponse(f"/compare{query(a=first, b=last)}", 302)


def _refs(context: Context) -> list[str]:
    found: list[str] = []
    for model in context.store.models():
        try:
            entries = context.store.state(model).entries()
        except StoreError:
            continue
        found += [f"{model}@{entry.version}" for entry in reversed(entries[-_REFS:])]
    return found[:_REFS]


def _find(context: Context, text: str) -> Found:
    resolved = resolve(context.store, text)
    return Found(resolved, context.store.state(resolved.model))


def _compared(context: Context, before: Found, after: Found) -> dict[str, Any]:
    """Return all that needs no tensors."""
    one, two = before.resolved, after.resolved
    difference = diff(context.store, one, two, tensors=False)
    old, new = before.manifest(context), after.manifest(context)
    configuration = settings_of(context, old, new)
    tokenizer = tokenizer_of(context, old, new)
    return {
        "before": _side(before),
        "after": _side(after),
        "one_line": one.model == two.model,
        "files": difference.files,
        "same_files": difference.same_files,
        "same": difference.same_content,
        "warnings": difference.warnings,
        "sections": [
            ("Parameters", [Setting(p.name, p.before, p.after) for p in difference.parameters]),
            ("Metrics", [Setting(p.name, p.before, p.after) for p in difference.metrics]),
            ("Configuration", configuration),
            ("Tokenizer", tokenizer),
        ],
    }


def _side(found: Found) -> dict[str, Any]:
    resolved = found.resolved
    return {
        "ref": str(resolved),
        "model": str(resolved.model),
        "version": str(resolved.entry.version),
        "url": version_url(resolved),
        "row": Rows(resolved.model, found.state).row(resolved.entry),
    }


# --- tensors


async def _tensors(context: Context, before: Found, after: Found) -> dict[str, Any]:
    """Return what is known of the tensors by now."""
    values: dict[str, Any] = {"pending": False, "share": 0.0, "problem": "", "difference": None}
    comparison = context.comparisons.of(before.resolved, after.resolved)
    try:
        if not await _is_done(comparison.difference):
            return {**values, "pending": True, "share": comparison.share}
        difference = comparison.difference.result()
    except StoreError as error:
        problem = f"{error.message} — {error.hint}" if error.hint else error.message
        return {**values, "problem": problem}
    return {**values, **await context.run(_drawn, difference)}


async def _is_done(future: Future[Difference]) -> bool:
    """Wait a little, and tell whether something is done, or has failed."""
    if not future.done():
        waited = asyncio.wrap_future(future)
        await asyncio.wait([waited], timeout=_WAIT_SECONDS)
        waited.add_done_callback(_looked_at)
    return future.done()


def _looked_at(done: asyncio.Future[Difference]) -> None:
    """Take an error that nobody waits for, so that asyncio does not report it as overlooked."""
    if not done.cancelled():
        done.exception()


def _drawn(difference: Difference) -> dict[str, Any]:
    rows = sorted(difference.tensors, key=lambda change: _natural(change.name))
    return {
        "difference": difference,
        "heat": change_chart(difference) if difference.tensors else "",
        "tensors": rows[:_MOST_TENSORS],
        "left_out": len(rows) - len(rows[:_MOST_TENSORS]),
        "sums": _sums(difference.tensors, difference.same_tensors),
    }


def _sums(changes: Iterable[TensorChange], same: int) -> dict[str, int]:
    found = {"same": same}
    for change in changes:
        found[change.change] = found.get(change.change, 0) + 1
    values = [c.distance for c in changes if c.change == MODIFIED and c.distance and not c.tied_to]
    found["compared"] = sum(distance.values for distance in values)
    found["changed"] = sum(distance.changed for distance in values)
    return found


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return what sorts names as people do: layer 2 before layer 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(part.isdecimal(), int(part[:18]) if part.isdecimal() else 0, part) for part in parts]
