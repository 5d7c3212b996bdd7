"""Which backups a policy keeps, and why.

A backup stays if any rule keeps it. The newest stays always, and so does the newest complete one.
Those that are dated in the future, by a clock that was wrong, stay too, and count for no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

SKEW = timedelta(hours=1)
"""How far ahead of ours the clock of another machine may be before it counts as wrong."""


@dataclass(frozen=True, slots=True)
class Dated:
    """A backup as far as retention looks at it."""

    name: str
    moment: datetime
    complete: bool


@dataclass(frozen=True, slots=True)
class BackupPolicy:
    """What stays of a row of backups; None for no such rule.

    Attributes:
        last: so many of the newest.
        daily, weekly, monthly: the newest of each of so many days, weeks (from Monday, ISO 8601) and
            months that have one; in UTC.
        within: those not older than this, counted back from the newest.
    """

    last: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    within: timedelta | None = None

    def __bool__(self) -> bool:
        """Whether it has any rule."""
        counts = (self.last, self.daily, self.weekly, self.monthly)
        return self.within is not None or any(count is not None for count in counts)


def reasons(
    policy: BackupPolicy, backups: Sequence[Dated], now: datetime
) -> dict[str, tuple[str, ...]]:
    """Return why each backup stays; () for those that go.

    Args:
        now: by this machine's clock.
    """
    found: dict[str, tuple[str, ...]] = {one.name: () for one in backups}
    ordered = sorted(backups, key=lambda one: (one.moment, one.name), reverse=True)
    counted = [one for one in ordered if one.moment <= now + SKEW]
    _keep(found, [one for one in ordered if one.moment > now + SKEW], "dated in the future")
    _keep(found, counted[:1], "the newest")
    _keep(found, [one for one in counted if one.complete][:1], "the newest complete")
    if policy.last:
        _keep(found, counted[: policy.last], f"one of the last {policy.last}")
    for count, what, period in (
        (policy.daily, "days", _day),
        (policy.weekly, "weeks", _week),
        (policy.monthly, "months", _month),
    ):
        if count:
            _keep(
                found, _newest_of_each(counted, period)[:count], f"one of the last {count} {what}"
            )
    if policy.within is not None and counted:
        oldest = counted[0].moment - policy.within
        _keep(found, [one for one in counted if one.moment >= oldest], "young enough")
    return found


def _keep(found: dict[str, tuple[str, ...]], backups: Sequence[Dated], why: str) -> None:
    for one in backups:
        found[one.name] += (why,)


def _newest_of_each(
    backups: Sequence[Dated], period: Callable[[datetime], tuple[int, ...]]
) -> list[Dated]:
    """Return the first backup of each period, of ``backups`` from new to old."""
    found: dict[tuple[int, ...], Dated] = {}
    for one in backups:
        found.setdefault(period(one.moment), one)
    return list(found.values())


def _day(moment: datetime) -> tuple[int, ...]:
    return moment.year, moment.month, moment.day


def _week(moment: datetime) -> tuple[int, ...]:
    return tuple(moment.isocalendar())[:2]


def _month(moment: datetime) -> tuple[int, ...]:
    return moment.year, moment.month
