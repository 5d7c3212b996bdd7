from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modelstore import cli
from tests import old_tool

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory of one model with two versions and one that is missing."""
    root = tmp_path / "tuned_models"
    for seed, name in enumerate(("v1.0", "v1.1")):
        old_tool.version(root / "llama_1b", name, seed=seed + 1)
    (root / "llama_1b" / "scratch").mkdir()
    versions: dict[str, object] = {"v1.0": {}, "v1.1": {}, "v1.2": {}}
    old_tool.registry(root / "llama_1b", {"active_version": "v1.1", "versions": versions})
    return root


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``mstore adopt`` beside the directory."""
    monkeypatch.chdir(root.parent)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(["adopt", *words])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def test_a_dry_run_says_all_and_changes_nothing(run: Run, root: Path) -> None:
    """Each version is told what would become of it, and not even `.mstore` is made."""
    before = old_tool.tree(root)
    code, out, err = run("--dry-run")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[1][:5] == ["v1.0", "2", "files", "to", "store"]
    assert rows[3] == ["v1.2", "listed;", "its", "files", "are", "missing"]
    assert "ACTIVE is v1.1" in out
    assert "Takes up to 17.8 kB" in out
    assert "left alone: llama_1b/scratch" in err
    assert old_tool.tree(root) == before


def test_adopting_says_what_release_would_free(run: Run, root: Path) -> None:
    """The end of a run tells what was stored, what is ACTIVE, and what could be freed."""
    code, out, err = run(str(root))
    assert code == 0
    assert "Adopted 2 versions, 17.8 kB" in out
    assert "ACTIVE: llama_1b@v1.1" in out
    assert "17.8 kB: mstore checkout --release" in err


def test_adopting_again_has_nothing_to_do(run: Run, root: Path) -> None:
    """A second run succeeds, says so, and leaves every byte alone."""
    run()
    before = old_tool.tree(root)
    code, out, _ = run()
    assert (code, out) == (0, "Nothing to adopt in " + str(root) + "\n")
    assert old_tool.tree(root) == before


@pytest.mark.parametrize("words", [["--json"], ["--json", "-n"]])
def test_json_tells_the_same(run: Run, root: Path, words: list[str]) -> None:
    """The plan, and what was done if anything was, come as one JSON value."""
    code, out, _ = run(*words)
    value = json.loads(out)
    assert (code, value["schema"]) == (0, "mstore/adopt/1")
    data = value["data"]
    assert data["dry_run"] == ("-n" in words)
    rows = data["models"][0]["versions"]
    assert [row["action"] for row in rows] == ["store", "store", "list"]
    assert data["need"] == sum(row["size"] for row in rows)
    assert [row["ref"] for row in data.get("adopted", [])] == (
        [] if "-n" in words else ["llama_1b@v1.0", "llama_1b@v1.1"]
    )


def test_a_version_that_cannot_be_taken_makes_it_partly_done(run: Run, root: Path) -> None:
    """The exit code is 3 where something was left out, and the reason is said."""
    (root / "llama_1b" / "v1.0" / "a.bin").symlink_to(root.parent)
    code, out, err = run()
    assert code == 3
    assert "Adopted 1 version, " in out
    assert "llama_1b@v1.0 was not taken" in err


def test_quiet_prints_refs_only(run: Run) -> None:
    """With -q the result is the full refs."""
    assert run("-q")[1] == "llama_1b@v1.0\nllama_1b@v1.1\n"


def test_nothing_around_here(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is nothing to adopt the error names the place."""
    empty = tmp_path / "tuned_models" / "llama_1b" / "scratch"
    monkeypatch.chdir(empty)
    assert run("-n")[0] == 0  # the models lie above
    code, _, err = run(str(empty))
    assert code == 4
    assert "holds no models" in err


def test_what_a_rule_skipped_is_said(run: Run, root: Path) -> None:
    """What a trainer left beside a model is named, before and after."""
    old_tool.version(root / "llama_1b" / "v1.0", "checkpoint-3")
    for words in ("-n", "-f"):
        assert "skipped in llama_1b/v1.0: checkpoint-3/" in run(words)[2]


def test_edits_and_lost_content_are_told(run: Run, root: Path) -> None:
    """A dry run lists what would be taken from an edited registry, and what comes back."""
    run()
    path = root / "llama_1b" / "model_registry.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    value["versions"]["v1.0"]["notes"] = "by hand"
    path.write_text(json.dumps(value), encoding="utf-8")
    for blob in (root / ".mstore" / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    _, out, _ = run("-n")
    assert "to take over from the edited model_registry.json: notes of v1.0" in out
    assert out.count("content to bring back: ") == 2
    row = json.loads(run("-n", "--json")[1])["data"]["models"][0]
    assert (row["edits"], row["versions"][0]["action"]) == (["notes of v1.0"], "heal")
    _, out, _ = run()
    assert "taken over from the edited model_registry.json: notes of v1.0" in out
    assert "of 2 versions" in out
    assert run()[1].startswith("Nothing to adopt")


def test_verify_of_what_was_only_registered(
    run: Run, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing ACTIVE is a remark, exit 0; by name it is not found; a lost one leads to adopt."""
    old_tool.registry(root / "llama_8b", {"active_version": "v1.0", "versions": {"v1.0": {}}})
    run()

    def verify(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(["verify", *words])
        return (int(left.value.code or 0), *capsys.readouterr())

    code, out, err = verify()
    assert code == 0
    assert "llama_8b@v1.0 is registered but its files are missing" in err
    assert "llama_1b@v1.1: sound" in out
    assert verify("llama_8b@v1.0")[0] == 4
    shutil.rmtree(root / ".mstore")
    code, out, err = verify()
    assert code == 1
    assert "take them in with: mstore adopt" in err
    assert "blobs, or what they are built on, are not in the store" in out
    assert len(out.splitlines()) < 6
