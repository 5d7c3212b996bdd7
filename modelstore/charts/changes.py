"""A map of change: what a heat map shows, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

UNCHANGED, CHANGED, PACKED, ADDED, REMOVED, REPLACED = (
    "unchanged",
    "changed",
    "packed",
    "added",
    "removed",
    "replaced",
)
"""What became of the tensors of a cell. Packed: they changed, and their values cannot be compared.
Replaced: another dtype or shape."""


@dataclass(frozen=True, slots=True)
class TensorFigures:
    """One tensor of a cell.

    Attributes:
        name: the whole of it.
        state: what became of it.
        values: how many it has; of a packed kind, bytes.
        changed: how many of them have other bits.
        relative: ‖after - before‖ / ‖before‖, 0 where nothing changed; None where it has none.
        largest: the largest change of one value, None where it is not known.
        remark: anything else to say of it, or "".
    """

    name: str
    state: str
    values: int = 0
    changed: int = 0
    relative: float | None = None
    largest: float | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """The tensors of one module of one layer.

    Attributes:
        row: its place in the rows.
        column: its place in the columns; None for one that is as wide as all of them.
        state: what became of its tensors; CHANGED if some of them changed.
        relative: the relative change; None where it has none. Of several tensors the root of the
            mean of the squares, weighted by their numbers of values.
        tensors: all of them.
    """

    row: int
    column: int | None
    state: str
    relative: float | None
    tensors: tuple[TensorFigures, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """A row or a column.

    Attributes:
        label: what is written beside it.
        whole: the part of the tensors' names that it stands for.
        group: what its neighbours share with it, or "".
    """

    label: str
    whole: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class ChangeMap:
    """How tensors changed, layer by module.

    Attributes:
        before, after: the versions.
        summary: the figures in one line.
        rows: layers from the input to the output.
        columns: modules of a layer.
        cells: at most one for a row and a column.
        measure: what `Cell.relative` is, for the legend.
    """

    before: str
    after: str
    summary: str
    rows: tuple[Head, ...]
    columns: tuple[Head, ...]
    cells: tuple[Cell, ...]
    measure: str = "relative L2 change"
