"""A policy keeps a version if any of its rules does, and says which."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import UsageError
from modelstore.hashing import digest_of
from modelstore.names import ModelName
from modelstore.ops.retention import Best, Policy, parse_age, parse_best, reasons
from modelstore.state import State, empty_document

LINE = ModelName("m")


def state(*versions: Mapping[str, Any]) -> State:
    """Return a model whose versions v1.0, v1.1, ... have these values."""
    entries = {
        f"v1.{n}": {"id": digest_of(str(n).encode()), "seq": n + 1, **values}
        for n, values in enumerate(versions)
    }
    return State({**empty_document(LINE), "versions": entries})


def kept(policy: Policy, found: State) -> list[str]:
    """Return the versions that have a reason to stay."""
    return [version for version, why in reasons(policy, found).items() if why]


def day(number: int) -> dict[str, str]:
    """Return what an entry says that was made on a day of a past January."""
    return {"created_at": f"2020-01-{number:02d}T00:00:00Z"}


def test_the_last_are_those_that_were_added_last() -> None:
    """By sequence number, whatever their dates say."""
    found = state(day(9), day(5), day(1))
    assert kept(Policy(last=2), found) == ["v1.1", "v1.2"]
    assert kept(Policy(last=0), found) == []
    assert kept(Policy(last=7), found) == ["v1.0", "v1.1", "v1.2"]


def test_ages_are_counted_back_from_the_newest() -> None:
    """Long afterwards, or with a clock that is wrong today, a week is still the last week."""
    found = state(day(1), day(10), day(12), day(17))
    assert kept(Policy(within=timedelta(days=7)), found) == ["v1.1", "v1.2", "v1.3"]
    assert kept(Policy(within=timedelta(0)), found) == ["v1.3"]


def test_a_newest_version_from_the_future_removes_no_other() -> None:
    """Then they are counted back from now; one that does not say when it was made stays."""
    found = state({"created_at": ""}, day(1), {"created_at": "2999-01-01T00:00:00Z"})
    assert kept(Policy(within=timedelta(weeks=90_000)), found) == ["v1.0", "v1.1", "v1.2"]
    assert kept(Policy(within=timedelta(days=1)), found) == ["v1.0", "v1.2"]


def test_the_best_by_a_metric() -> None:
    """Of equally good ones the newer; what lacks the metric, or has no number, is not ranked."""
    losses: list[dict[str, Any]] = [
        {"loss": 1.5},
        {"loss": 0.5},
        {},
        {"loss": 0.5},
        {"loss": "nan"},
    ]
    found = state(*({"metrics": metrics} for metrics in losses))
    assert kept(Policy(best=(Best(1, "loss", True),)), found) == ["v1.3"]
    assert kept(Policy(best=(Best(2, "loss", True),)), found) == ["v1.1", "v1.3"]
    assert kept(Policy(best=(Best(1, "loss", False),)), found) == ["v1.0"]


def test_rules_add_up_and_are_named() -> None:
    """A version that two rules keep has two reasons."""
    found = state({**day(1), "metrics": {"loss": 1}}, {**day(2), "metrics": {"loss": 2}})
    why = reasons(Policy(last=2, best=(Best(1, "loss", True),)), found)
    assert why == {
        "v1.0": ("one of the last 2", "one of the best 1 by loss"),
        "v1.1": ("one of the last 2",),
    }


def test_versions_without_content_are_not_looked_at() -> None:
    """They cost nothing, and take no place among the last."""
    found = state({}, {"id": None})
    assert dict(reasons(Policy(last=1), found)) == {"v1.0": ("one of the last 1",)}


def test_no_rule_is_no_policy() -> None:
    """Without one every version stays, which the caller asks for by its truth."""
    assert not Policy()
    assert Policy(last=0)
    assert Policy(within=timedelta(0))
    assert Policy(best=(Best(0, "loss", True),))


@pytest.mark.parametrize(("text", "hours"), [("24h", 24), ("7d", 168), ("3w", 504), ("0h", 0)])
def test_times_are_spelt_in_hours_days_or_weeks(text: str, hours: int) -> None:
    """A number and one letter."""
    assert parse_age(text) == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("3:loss", Best(3, "loss", True)),
        ("1:eval_Perplexity", Best(1, "eval_Perplexity", True)),
        ("2:accuracy", Best(2, "accuracy", False)),
        ("2:loss:max", Best(2, "loss", False)),
        ("2:wer:min", Best(2, "wer", True)),
        ("2:a:b:min", Best(2, "a:b", True)),
    ],
)
def test_what_is_best_is_told_by_the_name_of_the_metric_or_said(text: str, rule: Best) -> None:
    """Losses and perplexities are better low, all else high, unless it is said."""
    assert parse_best(text) == rule


@given(st.text())
def test_what_spells_no_rule_is_refused(text: str) -> None:
    """Whatever is typed, the answer is a rule or a usage error."""
    with suppress(UsageError):
        assert isinstance(parse_age(text), timedelta)
    with suppress(UsageError):
        assert isinstance(parse_best(text), Best)


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1m", "7 d", "1.5d", "999999d"])
def test_other_times_are_refused(text: str) -> None:
    """There are no minutes, months, signs or fractions."""
    with pytest.raises(UsageError):
        parse_age(text)


def test_a_metric_that_no_version_has_keeps_all() -> None:
    """A mistyped name removes nothing, and the reason says so."""
    found = state({"metrics": {"loss": 1.5}}, {"metrics": {"loss": 0.5}})
    why = reasons(Policy(best=(parse_best("1:los"),)), found)
    assert dict(why) == dict.fromkeys(("v1.0", "v1.1"), ("no version has a 'los'",))
