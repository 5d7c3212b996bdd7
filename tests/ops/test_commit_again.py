"""Committing again: from a checkout, with nothing new, into another line, after a killed one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, StoreError
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.resolve import resolve
from modelstore.ops.working import checkout_at
from modelstore.store import Store
from tests.builders import safetensors_bytes
from tests.cli.program import run
from tests.models import files_of, weights, write_model

LINE = ModelName("llama_1b")
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def put(store: Store, path: Path, **options: object) -> Committed:
    """Commit with options given by name."""
    return commit(store, path, LINE, CommitOptions(**options))  # type: ignore[arg-type]


def test_a_checkout_elsewhere_moves_on_with_each_commit(
    store: Store, model_dir: Path, tmp_path: Path
) -> None:
    """A directory that was checked out holds, after a commit, the version that was made of it."""
    put(store, model_dir)
    write_model(model_dir, step=0.001)
    put(store, model_dir)
    work = checkout(store, resolve(store, "v1.0"), output=tmp_path / "w").path
    parents = []
    for number in range(2):
        (work / "config.json").write_text(f'{{"edit": {number}}}')
        made = put(store, work)
        parents.append((made.version, made.parent))

    assert parents == [("v1.2", "llama_1b@v1.0"), ("v1.3", "llama_1b@v1.2")]
    assert not put(store, work).created
    known = checkout_at(store, work)
    assert known is not None
    assert (known.version, set(known.files)) == ("v1.3", set(files_of(work)))
    assert checkout_at(store, model_dir) is None  # it was never checked out


def test_a_file_that_changed_after_it_was_read_is_not_noted_as_right(
    store: Store, model_dir: Path, tmp_path: Path
) -> None:
    """What the user writes while the commit goes on is a change, though it has the same size."""
    put(store, model_dir)
    work = checkout(store, resolve(store, "v1.0"), output=tmp_path / "w").path
    (work / "config.json").write_text('{"edit": 1}')

    def write_meanwhile(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("store", total):
            (work / "tokenizer.json").write_bytes(b"x" * (work / "tokenizer.json").stat().st_size)

    commit(store, work, LINE, CommitOptions(), write_meanwhile)

    known = checkout_at(store, work)
    assert known is not None
    assert "tokenizer.json" not in known.files


def test_activate_with_nothing_to_commit_activates_what_is_there(
    store: Store, model_dir: Path
) -> None:
    """The version that has the files already becomes ACTIVE."""
    put(store, model_dir)
    write_model(model_dir, step=0.001)
    put(store, model_dir)

    made = put(store, model_dir, activate=True)

    assert (made.created, made.version, made.active) == (False, "v1.1", True)
    assert made.warnings == ()
    assert store.state(LINE).active == "v1.1"


def test_what_is_said_of_no_version_is_said_back(store: Store, model_dir: Path) -> None:
    """Options that describe a version are named where none is made, with the way to make one."""
    put(store, model_dir)

    made = put(store, model_dir, metrics={"loss": 1.0}, note="n", major=True, version="v1.0")

    assert not made.created
    (warning,) = made.warnings
    assert warning.startswith("nothing was made of --major, --metric, --note; ")
    assert "--allow-empty" in warning


def test_the_files_of_another_line_begin_a_line(store: Store, model_dir: Path) -> None:
    """Another model than the parent's gets a version of its own, which costs no blob, once."""
    put(store, model_dir)
    home = checkout(store, resolve(store, "v1.0")).path
    other = ModelName("all4")

    made = commit(store, home, other, CommitOptions())
    again = commit(store, home, other, CommitOptions())

    assert (made.created, made.model, made.version) == (True, "all4", "v1.0")
    assert (made.parent, made.new_blobs) == ("llama_1b@v1.0", 0)
    assert (again.created, again.model, again.version) == (False, "all4", "v1.0")


def test_a_parent_of_another_line_does_not_decide_the_number(store: Store, model_dir: Path) -> None:
    """The number follows the line that the version is put in."""
    commit(store, model_dir, ModelName("other"), CommitOptions())
    put(store, model_dir, parents=[])
    write_model(model_dir, step=0.001)
    put(store, model_dir, version="v3.0")
    write_model(model_dir, step=0.002)

    assert put(store, model_dir, parents=["other@v1.0"]).version == "v3.1"


def test_lines_that_some_systems_confuse_are_refused(store: Store, model_dir: Path) -> None:
    """A new line whose name differs from another's by case only is refused with both names."""
    put(store, model_dir)

    with pytest.raises(ConflictError, match=r"'LLama_1B'.*'llama_1b'"):
        commit(store, model_dir, ModelName("LLama_1B"), CommitOptions())
    assert store.models() == [LINE]


def test_the_path_of_an_entry_starts_at_the_project(store: Store, model_dir: Path) -> None:
    """As the old tool wrote it, whichever way the store is spelt."""
    put(store, model_dir)
    write_model(model_dir, step=0.001)
    put(Store(store.root / LINE / ".."), model_dir)

    paths = [entry.text("path") for entry in store.state(LINE).entries()]
    assert paths == ["tuned_models/llama_1b/v1.0", "tuned_models/llama_1b/v1.1"]


def test_what_killed_commits_left_goes_with_the_next(store: Store, model_dir: Path) -> None:
    """Staging without a process and half-written registry files are removed; others' files stay."""
    put(store, model_dir)
    home, records = store.root / LINE, store.meta / "refs" / LINE
    staging = store.meta / "tmp" / "0123456789abcdef"
    left = [
        home / ".v1.33.0a1b2c3d.tmp" / "README.md",
        home / ".model_registry.json.17.0a1b2c3d.tmp",
        records / ".0000000002.json.17.0a1b2c3d.tmp",
        staging / "frame",
        staging.with_suffix(".lock"),
    ]
    mine = [home / ".vacation.tmp", home / ".notes.tmp"]
    for path in [*left, *mine]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    write_model(model_dir, step=0.001)

    put(store, model_dir)

    assert not any(path.exists() for path in left)
    assert not left[0].parent.exists()
    assert list((store.meta / "tmp").iterdir()) == []
    assert all(path.exists() for path in mine)


def test_a_file_that_changes_is_named(store: Store, model_dir: Path) -> None:
    """Bytes that are not those that were hashed are a conflict that names the file."""

    def write_meanwhile(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("hash", total):
            changed = safetensors_bytes(weights(1, step=0.5))
            (model_dir / "model.safetensors").write_bytes(changed)

    with pytest.raises(ConflictError, match=r"model\.safetensors' changed while"):
        commit(store, model_dir, LINE, CommitOptions(), write_meanwhile)
    assert not store.registry(LINE).exists()


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_a_store_that_cannot_be_written_is_named(store: Store, model_dir: Path) -> None:
    """The error is about the store and not about a lock in it; what needs no writing works."""
    put(store, model_dir)
    (store.meta / "tmp").chmod(0o555)
    try:
        assert not put(store, model_dir).created
        write_model(model_dir, step=0.001)
        with pytest.raises(StoreError, match=r"tuned_models' cannot be written to"):
            put(store, model_dir)
    finally:
        (store.meta / "tmp").chmod(0o755)


def test_the_command_says_what_became_of_activate(store: Store, model_dir: Path) -> None:
    """With nothing to commit the line says what is ACTIVE now, and JSON says it too."""
    put(store, model_dir)
    words = ("-C", store.root, "commit", model_dir, "-M", LINE)

    said = run(*words, "--activate").out

    expected = "Nothing to commit: the files are those of llama_1b@v1.0"
    assert said == f"{expected}, which is ACTIVE now\n"
    data = run(*words, "--json").data("commit")
    assert (data["active"], data["brought_back"]) == (True, 0)


def test_a_share_of_more_than_everything_is_not_shown(store: Store, tmp_path: Path) -> None:
    """Frames have headers, so a tiny version may take more room than it has bytes."""
    tiny = tmp_path / "tiny.txt"
    for text in ("x", ""):
        tiny.write_text(text)
        done = run("-C", store.root, "commit", tiny, "-M", LINE, "-m", "tiny")
        assert done.code == 0
        assert "new in the store" in done.out
        assert "%" not in done.out
