"""``--svg`` of ``mstore diff`` and ``mstore log``."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.cli.program import run


def is_picture(data: bytes | str) -> bool:
    """Tell whether this is a whole SVG file."""
    return ET.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg"


def test_diff_draws_where_tensors_differ(place: Path) -> None:
    """Beside what it prints, and over what another run drew."""
    for _ in range(2):
        ran = run("diff", "llama_1b@v1.0", "llama_1b@v1.1", "--svg", "change.svg", "--files")
        assert (ran.code, "drawn: change.svg" in ran.err, "files:" in ran.out) == (0, True, True)
    assert is_picture((place / "change.svg").read_bytes())
    assert b"model.layers.0.mlp.weight" in (place / "change.svg").read_bytes()


def test_log_draws_metrics_and_costs(place: Path) -> None:
    """Instead of what it prints; JSON is printed all the same."""
    ran = run("log", "--svg", "log.svg")
    assert (ran.code, ran.out) == (0, "")
    assert b"llama_1b: loss" in (place / "log.svg").read_bytes()
    ran = run("log", "--json", "--svg", "log.svg")
    assert len(json.loads(ran.out)["data"]) == 2


@pytest.mark.parametrize("words", [["log"], ["diff", "llama_1b@v1.0", "llama_1b@v1.1"]])
def test_a_picture_can_be_piped(looked_at: Path, words: list[str]) -> None:
    """Then nothing else is on standard output."""
    ran = run(*words, "--svg", "-")
    assert ran.code == 0
    assert is_picture(ran.out)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--svg", "."], "is a directory"),
        (["--svg", "nowhere/x.svg"], "mkdir -p nowhere"),
        (["--svg", "-", "--json"], "name a file"),
    ],
)
def test_what_cannot_be_drawn_to_is_said_first(looked_at: Path, more: list[str], said: str) -> None:
    """With what to type instead."""
    ran = run("log", *more)
    assert ran.code == 2
    assert said in ran.err + ran.out
