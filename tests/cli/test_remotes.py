"""remote, push, fetch, pull and clone as commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.store import create
from tests.cli.program import run
from tests.models import files_of, write_model


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with one version of the model m."""
    root = create(tmp_path / "tuned_models").root
    assert commit(root, tmp_path, 0.0) == "m@v1.0"
    return root


def commit(root: Path, tmp_path: Path, step: float) -> str:
    """Commit a further version; return its ref."""
    source = write_model(tmp_path / "run", step=step)
    return run("-C", root, "commit", source, "-M", "m", "-m", "a step", "-q").out.strip()


def test_a_session_with_a_remote(root: Path, tmp_path: Path) -> None:
    """A version goes from one store through a remote into another, and a further one follows."""
    url, other = tmp_path / "remote", tmp_path / "other"
    assert run("-C", root, "remote", "add", "origin", url).code == 0
    assert "m: sent v1.0" in run("-C", root, "push").out
    assert "m: nothing to push" in run("-C", root, "push").out

    cloned = run("clone", url, other)
    assert cloned.code == 0
    assert "m: v1.0" in cloned.out
    commit(root, tmp_path, 1e-4)
    assert "would send v1.1" in run("-C", root, "push", "-n").out
    assert run("-C", root, "push", "origin", "m@v1.1").code == 0
    assert "m: v1.1" in run("-C", other, "fetch").out
    assert "m: v1.1" in run("-C", other, "pull").out
    assert "m: up to date" in run("-C", other, "pull").out
    assert run("-C", other, "verify", "m@v1.1").code == 0
    assert run("-C", other, "fsck", "--full").code == 0


def test_a_dry_run_tells_what_would_come_and_changes_nothing(root: Path, tmp_path: Path) -> None:
    """Fetch and pull name the versions and about their size; then a pull does just that."""
    url, other = tmp_path / "remote", tmp_path / "other"
    run("-C", root, "remote", "add", "origin", url)
    run("-C", root, "push")
    run("clone", url, other)
    commit(root, tmp_path, 1e-4)
    run("-C", root, "push")
    before = files_of(other)
    for verb in ("fetch", "pull"):
        assert "m: would bring v1.1; about " in run("-C", other, verb, "-n").out
        found = run("-C", other, verb, "-n", "--json").data(verb)
        assert found["dry_run"] is True
        assert found["models"][0]["versions"] == ["v1.1"]
        assert found["models"][0]["bytes"] > 0
    assert files_of(other) == before
    commit(other, tmp_path, 2e-4)
    assert run("-C", other, "pull", "-n").code == 5
    would = run("-C", other, "pull", "-n", "--rebase", "--json").data("pull")["models"][0]
    assert (would["outcome"], would["renamed"]) == ("rebased", {"v1.1": "v1.2"})
    did = run("-C", other, "pull", "--rebase", "--json").data("pull")["models"][0]
    assert (did["versions"], did["renamed"]) == (would["versions"], would["renamed"])


def test_status_tells_what_is_to_be_pushed_and_pulled(root: Path, tmp_path: Path) -> None:
    """As far as was last seen; a fetch looks anew."""
    url, other = tmp_path / "remote", tmp_path / "other"
    assert "origin" not in run("-C", root, "status").out
    run("-C", root, "remote", "add", "origin", url)
    run("-C", root, "push")
    run("clone", url, other)
    assert "  origin, as last seen: the same\n" in run("-C", root, "status").out
    commit(root, tmp_path, 1e-4)
    assert "  origin, as last seen: v1.1 to push\n" in run("-C", root, "status").out
    run("-C", root, "push")
    commit(other, tmp_path, 2e-4)
    assert "  origin, as last seen: v1.1 to push\n" in run("-C", other, "status").out
    run("-C", other, "fetch")
    assert "origin, as last seen: v1.1 to push; v1.1 to pull\n" in run("-C", other, "status").out
    run("-C", other, "pull", "--rebase")
    [model] = run("-C", other, "status", "m", "--json").data("status")["models"]
    assert model["remotes"] == [
        {"remote": "origin", "same": False, "ahead": ["v1.2"], "behind": []}
    ]
    run("-C", other, "push")
    run("-C", other, "alias", "best", "m@v1.2")
    said = run("-C", other, "status").out
    assert "origin, as last seen: the same versions, another registry" in said


def test_a_diverged_line_is_a_conflict_that_says_what_to_do(root: Path, tmp_path: Path) -> None:
    """Exit code 5 and the next command, which then works."""
    url, other = tmp_path / "remote", tmp_path / "other"
    run("-C", root, "remote", "add", "origin", url)
    run("-C", root, "push")
    run("clone", url, other)
    commit(root, tmp_path, 1e-4)
    commit(other, tmp_path, 2e-4)
    run("-C", root, "push")
    refused = run("-C", other, "push")
    assert refused.code == 5
    assert "mstore pull" in refused.err
    refused = run("-C", other, "pull")
    assert refused.code == 5
    assert "mstore pull --rebase -M m" in refused.err
    done = run("-C", other, "pull", "--rebase", "-M", "m")
    assert done.code == 0
    assert "m@v1.1 is m@v1.2 now" in done.err
    assert run("-C", other, "push").code == 0


def test_what_programs_read(root: Path, tmp_path: Path) -> None:
    """Every command has its JSON."""
    url, other = str(tmp_path / "remote"), tmp_path / "other"
    added = run("-C", root, "remote", "add", "origin", url, "--json").data("remote")
    assert added == {"name": "origin", "url": url, "sealed": False}
    assert run("-C", root, "remote", "list", "--json").data("remotes") == {"remotes": [added]}
    pushed = run("-C", root, "push", "--json").data("push")
    assert pushed["remote"] == url
    assert pushed["models"][0].items() >= {"model": "m", "outcome": "new", "error": None}.items()
    cloned = run("clone", url, other, "--lazy", "--json").data("clone")
    assert (cloned["store"], cloned["lazy"]) == (str(other), True)
    assert cloned["models"][0]["versions"] == ["v1.0"]
    fetched = run("-C", other, "fetch", "--json").data("fetch")
    assert fetched["models"][0].items() >= {"model": "m", "seq": 1, "versions": []}.items()
    pulled = run("-C", other, "pull", "--json").data("pull")
    assert pulled["models"][0]["outcome"] == "same"
    assert run("-C", root, "remote", "rm", "origin", "--json").data("remote") == added


def test_errors_name_the_remote_and_the_next_command(root: Path, tmp_path: Path) -> None:
    """Exit codes of section 7, and no traceback."""
    missing = run("-C", root, "push")
    assert missing.code == 4
    assert "mstore remote add origin URL" in missing.err
    assert run("-C", root, "pull", tmp_path / "nowhere").code == 7
    assert run("-C", root, "remote", "add", "x", "s3://user:secret@bucket/x").code == 2
    (tmp_path / "void").mkdir()
    assert run("clone", tmp_path / "void", tmp_path / "new").code == 4
    assert not (tmp_path / "new").exists()


def test_remotes_that_only_some_may_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encrypted remote takes the passphrase from the environment; without it the code is 12."""
    pytest.importorskip("cryptography")
    monkeypatch.setenv("MSTORE_PASSPHRASE", "some words")
    url = tmp_path / "remote"
    assert "encrypted" in run("-C", root, "remote", "add", "origin", url, "--encrypt").out
    assert run("-C", root, "push").code == 0
    monkeypatch.setenv("MSTORE_PASSPHRASE", "other words")
    assert run("-C", root, "pull").code == 12
    monkeypatch.delenv("MSTORE_PASSPHRASE")
    assert run("clone", url, tmp_path / "new").code == 12


def test_a_key_file_is_made_and_used(root: Path, tmp_path: Path) -> None:
    """Nobody else may read it, it is never overwritten, and what is no key file says how to get one."""
    pytest.importorskip("cryptography")
    key, url = tmp_path / "key", tmp_path / "remote"
    made = run("remote", "new-key", key)
    assert (made.code, made.out) == (0, f"{key}\n")
    assert key.stat().st_mode & 0o077 == 0
    assert run("remote", "new-key", key).code == 5
    wanted = ("-C", root, "remote", "add", "origin", url, "--encrypt", "--key-file")
    assert run(*wanted, key).code == 0
    assert run("-C", root, "push", "--key-file", key).code == 0
    assert run("-C", root, "push").code == 12
    wrong = tmp_path / "wrong"
    wrong.write_text("a key of another tool")
    refused = run("-C", root, "push", "--key-file", wrong)
    assert (refused.code, "mstore remote new-key FILE" in refused.err) == (2, True)


def test_an_unknown_remote_leads_to_the_known_ones(root: Path, tmp_path: Path) -> None:
    """Where there are some, the hint lists them."""
    assert run("-C", root, "remote", "add", "origin", tmp_path / "remote").code == 0
    for words in (("push", "orign"), ("remote", "rm", "orign")):
        done = run("-C", root, *words)
        assert (done.code, "mstore remote list" in done.err) == (4, True)
