"""Moments survive being written, and sort as text."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from modelstore import moments

MOMENTS = st.datetimes(timezones=st.just(timezone(timedelta(hours=2)))).filter(
    lambda moment: 1000 <= moment.year < 9999
)
"""Years of four digits, in UTC too."""


@given(MOMENTS, MOMENTS)
def test_a_stamp_says_the_second_and_sorts(one: datetime, other: datetime) -> None:
    """Any zone, and back as UTC."""
    for moment in (one, other):
        back = moments.parse_stamp(moments.stamp(moment))
        assert back == moment.replace(microsecond=0)
        assert back.utcoffset() == timedelta(0)
    earlier, later = sorted([one, other])
    assert moments.stamp(earlier) <= moments.stamp(later)


@given(MOMENTS)
def test_rfc_3339_is_read_by_everybody(moment: datetime) -> None:
    """A Z, and whole seconds."""
    text = moments.rfc3339(moment)
    assert datetime.fromisoformat(text.replace("Z", "+00:00")) == moment.replace(microsecond=0)
