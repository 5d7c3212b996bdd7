"""``mstore rm``, ``undelete`` and ``gc``: what they say, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.program import run
from tests.models import files_of, write_model


def test_a_version_goes_and_comes_back(place: Path) -> None:
    """Each says what it did, and what can be done next; whoever asks for what is gone is told."""
    done = run("rm", "v1.1", "-m", "it diverged")
    assert (done.code, done.out) == (0, "llama_1b@v1.1 is removed\n")
    assert "mstore undelete llama_1b@v1.1" in done.err
    for words in (
        ("show", "v1.1"),
        ("log", "v1.1"),
        ("checkout", "llama_1b@v1.1"),
        ("diff", "v1.1"),
    ):
        asked = run(*words)
        assert asked.code == 4
        assert "llama_1b@v1.1 was removed" in asked.err
        assert "mstore undelete llama_1b@v1.1" in asked.err
    assert "v1.1" not in run("list").out
    back = run("undelete", "v1.1")
    assert (back.code, back.out) == (0, "llama_1b@v1.1 is back\n")
    assert run("verify", "v1.1").code == 0
    assert run("undelete", "v1.1").code == 5


def test_what_is_in_use_is_refused(place: Path) -> None:
    """ACTIVE and aliases: a conflict, and the command that moves them."""
    refused = run("rm", "v1.0", "--json")
    assert refused.code == 5
    assert refused.error()["hint"].endswith("mstore set-active llama_1b@v1.1")
    run("alias", "prod", "v1.1")
    assert "mstore alias -d prod -M llama_1b" in run("rm", "v1.1").err
    assert run("alias", "-d", "prod", "-M", "llama_1b").code == 0
    assert run("rm", "v1.1", "-f").code == 0


def test_a_dry_run_changes_nothing(place: Path) -> None:
    """It shows what would go, for people and for programs."""
    run("rm", "v1.1")
    before = files_of(place)
    assert run("gc", "-n").out.splitlines()[0].endswith("would go to the trash")
    assert run("gc", "-n", "--purge-now").out.splitlines()[0].endswith("would go for good")
    would = run("gc", "-n", "--json").data("gc")
    assert files_of(place) == before
    done = run("gc", "--json").data("gc")
    assert would["dry_run"]
    assert not done["dry_run"]
    assert (would["frames"], would["size"]) == (done["frames"], done["size"])
    assert done["size"] > 0
    planned = run("rm", "v1.0", "-n")
    assert planned.code == 5


def test_what_was_removed_is_listed(place: Path) -> None:
    """Number, id and message of each, and how one comes back."""
    assert "no version was removed" in run("list", "--removed").err
    run("rm", "v1.1")
    listed = run("list", "--removed")
    assert listed.out.startswith("llama_1b@v1.1  ")
    assert "mstore undelete llama_1b@v1.1" in listed.err
    (row,) = run("list", "--removed", "--json").data("list-removed")
    assert row["ref"] == "llama_1b@v1.1"
    assert listed.out.split()[1] == row["id"][:12]


def test_gc_for_people(place: Path) -> None:
    """What was taken, what waits, what was freed; nothing with -q."""
    run("rm", "v1.1")
    done = run("gc")
    assert "taken out of use" in done.out
    assert "mstore gc --purge-now" in done.err
    assert "in the trash" in run("du").out
    assert "freed" in run("gc", "--purge-now").out
    quiet = run("gc", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    gone = run("undelete", "v1.1")
    assert gone.code == 4
    assert "is gone" in gone.err


def test_a_policy_says_why_each_version_stays(place: Path) -> None:
    """One row for each; the JSON has the same."""
    write_model(place / "three", step=2e-3)
    assert run("commit", "three", "--metric", "loss=1", "-M", "llama_1b").code == 0
    rows = [line.split() for line in run("gc", "--keep-best", "1:loss", "-n").out.splitlines()[1:4]]
    assert rows[0] == ["llama_1b@v1.0", "stays", "ACTIVE"]
    assert rows[1] == ["llama_1b@v1.1", "goes"]
    assert rows[2][:3] == ["llama_1b@v1.2", "stays", "one"]
    would = run("gc", "--keep-last", "1", "--keep-within", "1h", "-n", "--json").data("gc")
    assert would["removed"] == []
    done = run("gc", "--keep-best", "1:loss", "--json").data("gc")
    assert done["removed"] == ["llama_1b@v1.1"]
    assert run("undelete", "v1.1").code == 0
    assert run("verify", "v1.0", "v1.1", "v1.2").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--keep-last", "-1"),
        ("--keep-last", "many"),
        ("--keep-within", "soon"),
        ("--keep-best", "loss"),
        ("--keep-best", "1:loss:highest:max", "--keep-within", "7"),
    ],
)
def test_a_policy_that_is_none_is_a_usage_error(place: Path, words: tuple[str, ...]) -> None:
    """Nothing is taken away for a mistyped rule."""
    before = files_of(place)
    assert run("gc", *words).code == 2
    assert files_of(place) == before


def test_a_mistyped_model_is_said(place: Path) -> None:
    """A policy for a model that does not exist would look like one that keeps everything."""
    assert run("gc", "--keep-last", "1", "-M", "lama_1b").code == 4


def test_what_cannot_be_read_stops_gc(place: Path) -> None:
    """Exit code 6, the thing by name, and everything as it was."""
    shown = json.loads(run("show", "v1.0", "--json").out)["data"]
    frame = place / "tuned_models/.mstore/blobs" / shown["id"][:2] / shown["id"]
    frame.chmod(0o600)
    frame.write_bytes(b"damaged")
    run("rm", "v1.1")
    before = files_of(place)
    stopped = run("gc", "--purge-now", "--json")
    assert stopped.code == 6
    assert stopped.error()["hint"]
    assert files_of(place) == before


def test_strange_files_are_said_and_left_alone(place: Path) -> None:
    """They are a warning, not an error."""
    strange = place / "tuned_models/.mstore/blobs/00/notes.txt"
    strange.write_text("mine")
    done = run("gc", "--purge-now")
    assert done.code == 0
    assert "notes.txt" in done.err
    assert strange.exists()
