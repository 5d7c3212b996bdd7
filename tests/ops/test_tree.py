"""Which files of a directory become a version."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelstore.errors import BadNameError, ConflictError, UsageError
from modelstore.ops.tree import walk
from tests.models import write_model


def names(root: Path, **options: bool) -> list[str]:
    """Return the paths that would become content."""
    return [file.path for file in walk(root, **options).files]


def test_what_a_trainer_leaves_is_skipped_and_said(model_dir: Path) -> None:
    """Checkpoints, optimizer state and caches are no content, and are listed as skipped."""
    extra = ["checkpoint-10/model.safetensors", "optimizer.pt", ".cache/x", ".git/HEAD"]
    write_model(model_dir, files=dict.fromkeys(extra, "x"))

    tree = walk(model_dir)

    assert [f.path for f in tree.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert tree.skipped == (".cache/", ".git/", "checkpoint-10/", "optimizer.pt")


def test_what_mstore_leaves_is_never_content(model_dir: Path) -> None:
    """What a killed checkout left, a file or a directory, and a store within are skipped."""
    extra = [".mstore-0a.tmp", ".mstore-1b.tmp/0", "sub/.mstore/format.json", "sub/m/v1.0/x"]
    write_model(model_dir, files=dict.fromkeys(extra, "x"))

    tree = walk(model_dir)

    assert [f.path for f in tree.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert tree.skipped == (".mstore-0a.tmp", ".mstore-1b.tmp/", "sub/")


def test_mstoreignore_adds_and_takes_back(model_dir: Path) -> None:
    """Own rules skip more, and a ! takes back what a default rule skips."""
    rules = "# mine\n*.log\nlogs/\n!optimizer.pt\n"
    write_model(
        model_dir, files={".mstoreignore": rules, "a.log": "", "logs/b": "", "optimizer.pt": ""}
    )

    assert names(model_dir) == [
        "config.json",
        "model.safetensors",
        "optimizer.pt",
        "tokenizer.json",
    ]


def test_one_file_is_a_tree_too(model_dir: Path) -> None:
    """Committing a single file makes a version of one file."""
    assert names(model_dir / "config.json") == ["config.json"]


def test_a_hugging_face_cache_is_followed(tmp_path: Path) -> None:
    """Snapshot links into the cache's blobs are followed without being asked."""
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "123").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/123")

    assert names(snapshot) == ["config.json"]


def test_a_link_inside_the_tree_is_followed(model_dir: Path) -> None:
    """A link to a file of the same tree is that file once more."""
    (model_dir / "again.json").symlink_to("config.json")

    assert "again.json" in names(model_dir)


@pytest.mark.parametrize("kind", ["outside", "nowhere", "directory"])
def test_other_links_are_refused(model_dir: Path, tmp_path: Path, kind: str) -> None:
    """A link that leads outside needs --follow-symlinks; one to nothing is an error."""
    (tmp_path / "secret").write_text("x")
    (tmp_path / "dir").mkdir()
    target = {"outside": "secret", "nowhere": "none", "directory": "dir"}[kind]
    (model_dir / "link").symlink_to(tmp_path / target)

    with pytest.raises(UsageError, match="symlink"):
        walk(model_dir)


def test_follow_symlinks_follows(model_dir: Path, tmp_path: Path) -> None:
    """With the option, files and directories outside are taken."""
    write_model(tmp_path / "dir", files={"extra.txt": "x"})
    (model_dir / "link").symlink_to(tmp_path / "dir")

    assert "link/extra.txt" in names(model_dir, follow_symlinks=True)


def test_a_loop_of_links_ends(model_dir: Path) -> None:
    """A link back into the tree is refused instead of followed for ever."""
    (model_dir / "loop").symlink_to(model_dir)

    with pytest.raises(UsageError, match="back"):
        walk(model_dir, follow_symlinks=True)


def test_special_files_are_refused(model_dir: Path) -> None:
    """A pipe is named in the error, and not read."""
    os.mkfifo(model_dir / "pipe")

    with pytest.raises(UsageError, match="pipe"):
        walk(model_dir)


def test_names_that_some_systems_confuse_are_refused(model_dir: Path) -> None:
    """Two names that differ by case only are both named."""
    write_model(model_dir, files={"Readme.txt": "", "README.txt": ""})

    with pytest.raises(ConflictError, match=r"README\.txt.*Readme\.txt"):
        walk(model_dir)


@pytest.mark.parametrize("name", ["a\nb", "nul", "a:b", "a\\b", "end.", "CON.txt"])
def test_names_that_some_systems_cannot_have_are_refused(model_dir: Path, name: str) -> None:
    """A name that Windows, or a terminal, takes for something else is refused."""
    (model_dir / name).write_text("x")

    with pytest.raises(BadNameError):
        walk(model_dir)


def test_a_name_that_is_not_utf8_is_refused(model_dir: Path) -> None:
    """A file name that is not text is refused, not mangled."""
    Path(os.fsdecode(os.fsencode(model_dir) + b"/\xff.txt")).write_text("x")

    with pytest.raises(BadNameError):
        walk(model_dir)
