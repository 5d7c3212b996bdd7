"""A map of change, layer by module: what a heat map of two versions shows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from modelstore.charts import Chart, heat_map
from modelstore.charts.changes import (
    ADDED,
    CHANGED,
    PACKED,
    REMOVED,
    REPLACED,
    UNCHANGED,
    Cell,
    ChangeMap,
    TensorFigures,
)
from modelstore.ops import diff as differences
from modelstore.ops.diff import Difference, TensorChange
from modelstore.ops.layers import arrange

_STATES = {
    differences.ADDED: ADDED,
    differences.REMOVED: REMOVED,
    differences.RETYPED: REPLACED,
    differences.RESHAPED: REPLACED,
}
_LEADING = (CHANGED, PACKED, REPLACED, ADDED, REMOVED, UNCHANGED)
"""The state of a cell is the first of these that one of its tensors has."""


def change_map(found: Difference) -> ChangeMap:
    """Return how the tensors of two versions differ, layer by module.

    Where no changed tensor is of a kind whose values can be compared, as with packed kinds, the
    measure is the share of bytes that changed.
    """
    figures = [_figures(change) for change in found.tensors]
    figures += [
        TensorFigures(name, UNCHANGED, count, relative=0.0)
        for name, count in found.unchanged.items()
    ]
    states = {one.state for one in figures}
    by_share = PACKED in states and CHANGED not in states
    if by_share:
        figures = [_by_share(one) for one in figures]
    arranged = arrange([one.name for one in figures])
    members: dict[tuple[int, int | None], list[TensorFigures]] = defaultdict(list)
    for one in figures:
        members[arranged.places[one.name]].append(one)
    cells = [_cell(row, column, tuple(of)) for (row, column), of in members.items()]
    return ChangeMap(
        before=str(found.before),
        after=str(found.after),
        summary=_summary(figures, packed=by_share),
        rows=arranged.rows,
        columns=arranged.columns,
        cells=tuple(sorted(cells, key=lambda cell: (cell.row, cell.column or 0))),
        measure="share of bytes changed" if by_share else "relative L2 change",
    )


def change_chart(found: Difference) -> Chart:
    """Return a picture of how the tensors of two versions differ."""
    return heat_map(f"Change of tensors, {found.before} to {found.after}", change_map(found))


def _figures(change: TensorChange) -> TensorFigures:
    apart = change.distance
    if apart is None:
        return TensorFigures(change.name, _STATES[change.change], remark=_kinds(change))
    remarks = [f"the same values as {change.tied_to}"] if change.tied_to else []
    if any(apart.not_finite):
        remarks.append(f"NaN or infinite: {apart.not_finite[0]} -> {apart.not_finite[1]}")
    elif apart.max_abs is None:
        remarks.append("packed: counted in bytes")
    elif apart.relative_l2 is None:
        remarks.append("was all zero")
    return TensorFigures(
        name=change.name,
        state=PACKED if apart.relative_l2 is None and apart.max_abs is None else CHANGED,
        values=apart.values,
        changed=apart.changed,
        relative=apart.relative_l2,
        largest=apart.max_abs,
        remark="; ".join(remarks),
    )


def _kinds(change: TensorChange) -> str:
    sides = [side for side in (change.before, change.after) if side is not None]
    return " -> ".join(f"{dtype} {'x'.join(map(str, shape))}".strip() for dtype, shape in sides)


def _by_share(one: TensorFigures) -> TensorFigures:
    if one.state != PACKED:
        return one
    return replace(one, state=CHANGED, relative=one.changed / max(1, one.values))


def _cell(row: int, column: int | None, of: tuple[TensorFigures, ...]) -> Cell:
    state = next(state for state in _LEADING if any(one.state == state for one in of))
    return Cell(row, column, state, _together(of) if state == CHANGED else None, of)


def _together(of: Sequence[TensorFigures]) -> float | None:
    """Return the root mean square of relative changes, weighted by numbers of values.

    Of tensors whose values are equally large on average that is the relative change of all of them.
    """
    known = [(one.values, one.relative) for one in of if one.relative is not None]
    if not any(one.state == CHANGED and one.relative is not None for one in of):
        return None
    if len(known) == 1:
        return known[0][1]
    total = sum(values for values, _ in known)
    mean = math.fsum(values / total * relative * relative for values, relative in known)
    return math.sqrt(mean)


def _summary(figures: Iterable[TensorFigures], *, packed: bool) -> str:
    alone = [one for one in figures if not one.remark.startswith("the same values")]
    differing = sum(one.state != UNCHANGED for one in alone)
    values = sum(one.values for one in alone)
    changed = sum(one.changed for one in alone)
    said = f"{differing:,} of {len(alone):,} tensors differ"
    if changed:
        share = 100 * changed / max(1, values)
        said += f"; {changed:,} of {values:,} {'bytes' if packed else 'values'} ({share:.3g} %)"
    return said
