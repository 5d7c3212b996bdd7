"""Which backups stay: any rule keeps one, and the newest stays always."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from modelstore.ops.backup_retention import SKEW, BackupPolicy, Dated, reasons

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
COUNTS = st.none() | st.integers(0, 5)
POLICIES = st.builds(
    BackupPolicy,
    last=COUNTS,
    daily=COUNTS,
    weekly=COUNTS,
    monthly=COUNTS,
    within=st.none() | st.timedeltas(timedelta(0), timedelta(days=60)),
)
ROWS = st.lists(
    st.tuples(st.integers(-120 * 24, 5 * 24), st.booleans()),
    max_size=40,
    unique_by=lambda row: row[0],
)


def dated(rows: list[tuple[int, bool]]) -> list[Dated]:
    """Return backups that were made so many hours after `NOW`."""
    return [
        Dated(f"{number:03}", NOW + timedelta(hours=hours), complete)
        for number, (hours, complete) in enumerate(rows)
    ]


def kept_by_hand(policy: BackupPolicy, backups: list[Dated]) -> set[str]:
    """Return what stays, found by trying for each backup whether it is the one that a rule means."""
    past = [one for one in backups if one.moment <= NOW + SKEW]
    kept = {one.name for one in backups if one.moment > NOW + SKEW}
    for one in past:
        newer = [other for other in past if other.moment > one.moment]
        if not newer or (one.complete and not any(other.complete for other in newer)):
            kept.add(one.name)
        if policy.last is not None and len(newer) < policy.last:
            kept.add(one.name)
        for count, form in (
            (policy.daily, "%Y-%m-%d"),
            (policy.weekly, "%G-%V"),
            (policy.monthly, "%Y-%m"),
        ):
            own = one.moment.strftime(form)
            periods = {other.moment.strftime(form) for other in newer}
            if count is not None and own not in periods and len(periods) < count:
                kept.add(one.name)
        if policy.within is not None:
            newest = max(other.moment for other in past)
            if newest - one.moment <= policy.within:
                kept.add(one.name)
    return kept


@given(POLICIES, ROWS)
def test_rules_keep_what_they_say(policy: BackupPolicy, rows: list[tuple[int, bool]]) -> None:
    """The backups with a reason are those that trying every rule on each finds."""
    backups = dated(rows)
    found = reasons(policy, backups, NOW)
    assert {name for name, why in found.items() if why} == kept_by_hand(policy, backups)
    assert found.keys() == {one.name for one in backups}


@given(POLICIES, ROWS, st.randoms(use_true_random=False))
def test_the_order_in_which_backups_come_is_of_no_matter(
    policy: BackupPolicy, rows: list[tuple[int, bool]], random: object
) -> None:
    """A listing may come in any order."""
    backups = dated(rows)
    shuffled = list(backups)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reasons(policy, shuffled, NOW) == reasons(policy, backups, NOW)


def test_a_clock_that_was_wrong_costs_nothing() -> None:
    """Backups that are dated in the future stay, and push none of the others out."""
    backups = dated([(-48, True), (-24, True), (24 * 365, True), (24 * 366, True)])
    found = reasons(BackupPolicy(last=2), backups, NOW)
    assert found["002"] == found["003"] == ("dated in the future",)
    assert all(found[name] for name in ("000", "001"))


def test_reasons_are_said() -> None:
    """Each rule that keeps a backup is named."""
    found = reasons(BackupPolicy(last=1, daily=2), dated([(0, True), (-30, False)]), NOW)
    assert found["000"] == (
        "the newest",
        "the newest complete",
        "one of the last 1",
        "one of the last 2 days",
    )
    assert found["001"] == ("one of the last 2 days",)


def test_no_rule_is_no_policy() -> None:
    """A policy without rules is told from one that keeps none but the newest."""
    assert not BackupPolicy()
    assert BackupPolicy(last=0)
    assert BackupPolicy(within=timedelta(0))
