"""How the loss of a training went: what a manifest keeps of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Where a training was after some of its steps.

    Attributes:
        step: optimizer steps done.
        loss: in nats per token, the mean over the steps since the point before, as a decimal; "" at
            a point that is only there for the evaluation.
        evaluation: mean loss on the evaluation rows, as a decimal; "" where it was not measured.
    """

    step: int
    loss: str
    evaluation: str = ""


def curve_value(curve: Sequence[CurvePoint]) -> list[list[object]]:
    """Return what canonical JSON says of a curve."""
    return [[point.step, point.loss, point.evaluation] for point in curve]


def parse_curve(value: object) -> Iterator[CurvePoint]:
    """Yield the points that `curve_value` made ``value`` of.

    Raises:
        ValueError: there are none, or they break a rule of docs/format.md.
    """
    if not isinstance(value, list) or not value:
        raise ValueError("the curve is not a list of points")
    before = -1
    for item in value:
        point = _point(item)
        if point.step <= before:
            raise ValueError(f"the curve does not go on at step {point.step}")
        yield point
        before = point.step


def _point(item: object) -> CurvePoint:
    if not isinstance(item, list) or len(item) != 3:
        raise ValueError(f"{item!r} is not a point of a curve")
    step, loss, evaluation = item
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 1 << 63:
        raise ValueError(f"{step!r} is not a number of steps")
    for said in (loss, evaluation):
        if said != "" and not (isinstance(said, str) and _DECIMAL.fullmatch(said)):
            raise ValueError(f"{said!r} is not a decimal number")
    if not loss and not evaluation:
        raise ValueError(f"the curve says nothing of step {step}")
    return CurvePoint(step, loss, evaluation)
