"""What small inputs claim costs nothing: bounded memory, and time by what is there."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

from tests.cli.program import environment
from tests.hostile.bombs import GROUPS

MOST_MEMORY = 512
"""MiB, of the whole process."""

MOST_TIME = 2.0
"""Seconds of processor time beyond what reading takes; one on a machine of its own."""

PER_MIB = 2.0
"""Seconds for each MiB that is really there: parsers are Python, and machines of CI are slow."""


@cache
def _tried(group: str) -> dict[str, tuple[str, float, int]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.bombs", group],
        capture_output=True,
        check=True,
        env=environment(),
        timeout=200,
    )
    found: dict[str, tuple[str, float, int]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, (inputs, _) in GROUPS.items() for name in inputs]
)
def test_a_bomb_costs_what_it_weighs(group: str, name: str) -> None:
    """Memory stays below 512 MiB, and time is that of reading the bytes that there are."""
    inputs, _ = GROUPS[group]
    _, seconds, memory = _tried(group)[name]
    assert memory < MOST_MEMORY
    assert seconds < MOST_TIME + PER_MIB * len(inputs[name]()) / (1 << 20)
