"""``mstore commit --adapter``: what it says, and how it ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.program import run
from tests.loras import layers, write_adapter, write_merge


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directories base, merged and adapter; not to be changed."""
    return write_merge(tmp_path_factory.mktemp("lora"))


@pytest.fixture
def based(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a store whose model m has the base as v1.0."""
    monkeypatch.chdir(tmp_path)
    assert run("init").code == 0
    assert run("commit", files / "base", "-M", "m", "-m", "base").code == 0
    return tmp_path


def test_a_merge_beside_its_adapter_is_smaller(based: Path, files: Path) -> None:
    """The same files take less when the adapter is given, and what is said is what was stored."""
    shutil.copytree("tuned_models", "other")
    with_it = run("commit", files / "merged", "-m", "x", "--adapter", files / "adapter", "--json")
    without = run("-C", "other", "commit", files / "merged", "-M", "m", "-m", "x", "--json")
    assert with_it.data("commit")["stored"] < 0.6 * without.data("commit")["stored"]
    assert with_it.data("commit")["warnings"] == []
    frames = run("du", "--json").data("du")
    assert frames["reclaimable"] == 0
    assert run("verify", "m@v1.1").code == 0


def test_no_adapter_is_an_error_that_names_the_file(based: Path, files: Path) -> None:
    """A directory without an adapter, and one that does not exist, end with 4."""
    for place in (files / "base", files / "nowhere"):
        done = run("commit", files / "merged", "-m", "x", "--adapter", place, "--json")
        assert done.error()["exit"] == 4
        assert "adapter_config.json" in done.err


def test_other_kinds_of_adapters_are_refused(based: Path, files: Path) -> None:
    """DoRA is merged in another way: that is said, and nothing is committed."""
    write_adapter(based / "dora", layers(), use_dora=True)
    done = run("commit", files / "merged", "-m", "x", "--adapter", "dora", "--json")
    assert done.error()["exit"] == 2
    assert "use_dora" in done.err
    assert [row["version"] for row in run("log", "m", "--json").data("log")] == ["v1.0"]


def test_weights_that_are_not_in_the_files_are_told(based: Path, files: Path) -> None:
    """The commit is made, and the warning counts and names what the adapter changes elsewhere."""
    strange = {name.replace("up_proj", "gate"): one for name, one in layers().items()}
    write_adapter(based / "strange", strange)
    done = run("commit", files / "merged", "-m", "x", "--adapter", "strange")
    assert done.code == 0
    assert "3 of the weights that 'strange' changes are not in the files" in done.err


def test_an_adapter_that_a_version_keeps_is_checked_out_alone(
    based: Path, files: Path, tmp_path: Path
) -> None:
    """Into a directory, or within the version's own; and not together with what contradicts it."""
    shutil.copytree(files / "merged", "with")
    shutil.copytree(files / "adapter", "with/adapter")
    assert run("commit", "with", "-M", "m", "-m", "x", "--adapter", "with/adapter").code == 0
    done = run("checkout", "m@v1.1", "--adapter", "-o", "out", "--json").data("checkout")
    assert done["written"] == ["adapter_config.json", "adapter_model.safetensors"]
    assert done["size"] == sum(path.stat().st_size for path in Path("out").iterdir())
    assert run("checkout", "m@v1.1", "--adapter", "-q").out.strip().endswith("v1.1/adapter")
    assert run("checkout", "m@v1.0", "--adapter", "--json").error()["exit"] == 4
    assert run("checkout", "m@v1.1", "--adapter", "--release", "--json").error()["exit"] == 2
