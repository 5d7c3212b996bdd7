"""``mstore repack``: what it says, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.codecs import ids
from modelstore.names import ModelName
from modelstore.store import Store
from tests.cli.program import run
from tests.frames import put_frame
from tests.models import files_of, write_model


@pytest.fixture
def loose(place: Path) -> Path:
    """A store with a second model, whose only version is near the first's and has no base."""
    write_model(place / "three", step=1e-6)
    assert run("commit", "three", "-M", "other", "-m", "from elsewhere").code == 0
    store = Store(place / "tuned_models")
    line = ModelName("other")
    for _, span, tensor in store.manifest(line, store.state(line).entries()[0]).tensors():
        put_frame(store.blobs, store.blobs.read(span.blob), ids.PLANES, dtype=tensor.dtype)
    return place


def frames(place: Path) -> int:
    """Return the bytes of all frames."""
    return sum(len(data) for data in files_of(place / "tuned_models/.mstore/blobs").values())


def test_it_tells_what_was_won_for_each_model(loose: Path) -> None:
    """Before, after and their difference are those of the frames."""
    before = frames(loose)
    would = run("repack", "--dry-run", "--json").data("repack")
    assert frames(loose) == before
    done = run("repack", "--json").data("repack")
    total = done["total"]
    assert (done["effort"], done["dry_run"], would["dry_run"]) == ("normal", False, True)
    assert [row["model"] for row in done["models"]] == ["llama_1b", "other"]
    assert total["before"] - total["after"] == before - frames(loose) > 0
    assert would["total"] == total
    assert sum(row["after"] for row in done["models"]) == total["after"]
    assert (done["left"], done["unreadable"]) == (0, [])


def test_for_people(loose: Path) -> None:
    """A table of the models and one sentence; nothing to win is said too, and -q says nothing."""
    done = run("repack")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].split()[:2] == ["model", "frames"]
    assert done.out.splitlines()[-1].endswith(" won")
    again = run("repack", "other")
    assert again.out.startswith("nothing to win in ")
    assert run("repack", "-q").out == ""


def test_a_dry_run_says_would(loose: Path) -> None:
    """What is only tried is not told as done."""
    path = loose / "tuned_models/.mstore/blobs"
    before = files_of(path)
    assert " would be encoded anew: " in run("repack", "-n", "--effort", "max").out
    assert files_of(path) == before


def test_models_and_versions_can_be_named(loose: Path) -> None:
    """Only what was named is examined; a name that is neither is an error."""
    all_frames = run("repack", "-n", "--json").data("repack")["total"]["examined"]
    one = run("repack", "-n", "--json", "llama_1b@v1.0").data("repack")
    model = run("repack", "-n", "--json", "-M", "other").data("repack")
    assert 0 < one["total"]["examined"] < all_frames
    assert [row["model"] for row in model["models"]] == ["other"]
    assert run("repack", "nobody").code == 4


def test_damage_ends_with_3(place: Path) -> None:
    """What could not be read is named, and the hint says how to look at it."""
    store = Store(place / "tuned_models")
    entry = store.state(store.models()[0]).entries()[0]
    _, span, _ = next(iter(store.manifest(store.models()[0], entry).tensors()))
    store.blobs.path(span.blob).unlink()
    done = run("repack")
    assert done.code == 3
    assert span.blob in done.err
    assert "mstore fsck --full" in done.err
    assert run("repack", "--json").code == 3


def test_frames_that_were_left_are_told(loose: Path) -> None:
    """While somebody stages, what would become deeper is left, and the exit code says so."""
    store = Store(loose / "tuned_models")
    with store.blobs.transaction():
        done = run("repack", "--lock-timeout", "0")
    assert done.code == 3
    assert "because of a commit; next: mstore repack" in done.err
    assert run("repack").code == 0
