"""``mstore fsck`` and ``mstore doctor`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelstore.ops.resolve import resolve
from modelstore.store import Store
from tests.cli.program import run

NORM = "model.layers.0.norm.weight"


def frame_of(place: Path, ref: str, tensor: str) -> Path:
    """Return where the frame of a version's tensor lies."""
    store = Store(place / "tuned_models")
    resolved = resolve(store, ref)
    manifest = store.manifest(resolved.model, resolved.entry)
    digest = next(span.blob for _, span, one in manifest.tensors() if one.name == tensor)
    return store.blobs.path(digest)


def damage(path: Path) -> None:
    """Flip the last bit of a file."""
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize(
    "words", [(), ("--quick",), ("--full",), ("--read-data-subset", "1/2"), ("--repair",)]
)
def test_a_sound_store(place: Path, words: tuple[str, ...]) -> None:
    """One line says so; with -q nothing does."""
    done = run("fsck", *words)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(": sound\n")
    assert "2 models, 2 versions" in done.out
    assert run("fsck", "-q", *words).out == ""


def test_damage_is_named_with_what_is_lost_and_mended(place: Path) -> None:
    """The line has version, file and tensor; the hint is the repair, which the checkout feeds."""
    run("checkout", "v1.1")
    damage(frame_of(place, "v1.1", NORM))
    done = run("fsck", "--full")
    assert done.code == 1
    assert "problem: blob " in done.out
    assert f"lost with it: llama_1b@v1.1: model.safetensors ({NORM})" in done.out
    assert "mstore fsck --full --repair" in done.err  # without --full it would find nothing
    data = run("fsck", "--full", "--json").data("fsck")
    assert not data["sound"]
    assert data["problems"][0]["affected"][0]["tensors"] == [NORM]

    mended = run("fsck", "--full", "--repair")
    assert mended.code == 0
    assert "brought back" in mended.out
    assert "mstore repack" in mended.err
    assert run("fsck", "--full").code == 0


def test_what_cannot_be_mended_exits_with_1(place: Path) -> None:
    """And says how it comes back."""
    damage(frame_of(place, "v1.1", NORM))
    done = run("fsck", "--full", "--repair")
    assert done.code == 1
    assert "is not in the store" in done.out
    assert "mstore commit DIR" in done.err
    assert "--from" not in done.err
    assert run("remote", "add", "other", place / "other").code == 0
    assert "mstore fsck --repair --from other" in run("fsck", "--repair").err
    assert run("commit", "two").code == 0
    assert run("fsck", "--full").code == 0


def test_notes_do_not_fail(place: Path) -> None:
    """What a killed process left is told, and the exit code is 0."""
    (place / "tuned_models/.mstore/tmp/0123456789abcdef").mkdir()
    done = run("fsck")
    assert done.code == 0
    assert "note: .mstore/tmp/0123456789abcdef" in done.err


def test_many_blobs_of_one_version_are_one_line(place: Path) -> None:
    """A version that is lost as a whole does not fill the screen."""
    for path in (place / "tuned_models/.mstore/blobs").glob("*/*"):
        path.unlink()
    done = run("fsck")
    assert done.code == 1
    assert len(done.out.splitlines()) < 12
    assert "more" in done.out


@pytest.mark.parametrize(
    "words",
    [("--quick", "--full"), ("--full", "--read-data-subset", "1/2"), ("--read-data-subset", "x")],
)
def test_options_that_contradict_each_other(place: Path, words: tuple[str, ...]) -> None:
    """They are a usage error."""
    assert run("fsck", *words).code == 2


def test_doctor_with_and_without_a_store(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it found of packages, and of the store's place where there is one."""
    done = run("doctor")
    assert done.code == 0
    assert "durability" in done.out
    states = {one["name"]: one["state"] for one in run("doctor", "--json").data("doctor")}
    for name in ("python", "numpy", "filelock", "compiled loops", "durability", "locks"):
        assert states[name] == "ok"
    (place / "elsewhere").mkdir()
    monkeypatch.chdir("/")
    alone = run("doctor")
    assert alone.code == 0
    assert "durability" not in alone.out
    assert run("doctor", "-C", place / "nowhere").code == 10


def test_doctor_leaves_nothing_behind(place: Path) -> None:
    """What it tried is gone, and fsck finds nothing."""
    run("doctor")
    assert list((place / "tuned_models/.mstore/tmp").iterdir()) == []
    assert json.loads(run("fsck", "--json").out)["data"]["notes"] == []
