"""What fuzzing found, and reached, is tried again with every run of the tests."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import seeds, targets


@pytest.mark.parametrize("target", targets.TARGETS)
def test_the_saved_corpus_raises_only_declared_errors(target: str) -> None:
    """No saved input makes its parser do what it does not document."""
    found = list(targets.saved(target))
    assert found, "the corpus of this target is missing"
    for path in found:
        targets.TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", targets.TARGETS)
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_seeds_raise_only_declared_errors(target: str, data: st.DataObject) -> None:
    """Nor does a valid input with some bytes changed, taken out or put in."""
    seed = data.draw(st.sampled_from(list(seeds.of(target))))
    at = data.draw(st.integers(0, len(seed)))
    cut = data.draw(st.integers(0, 4))
    put = data.draw(st.binary(max_size=8))
    targets.TARGETS[target](seed[:at] + put + seed[at + cut :])
