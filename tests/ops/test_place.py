"""Where versions are written to, and what is left there by those who were killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelstore.errors import ConflictError
from modelstore.names import ModelName
from modelstore.ops import place
from modelstore.ops.adopt import adopt
from modelstore.ops.checkout import checkout, release
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import Resolved, resolve
from modelstore.ops.survey import plan_adopt
from modelstore.store import Store
from tests import old_tool
from tests.cli.program import environment
from tests.crashes import crashes
from tests.models import files_of, write_model

LINE = ModelName("llama_1b")


@pytest.fixture
def two(store: Store, tmp_path: Path) -> tuple[Resolved, Resolved]:
    """Two versions."""
    source = write_model(tmp_path / "one")
    commit(store, source, LINE, CommitOptions())
    commit(store, write_model(source, step=0.001), LINE, CommitOptions())
    return resolve(store, "v1.0"), resolve(store, "v1.1")


def _ways_into_the_store(store: Store) -> dict[str, Path]:
    return {
        "root": store.root,
        "meta": store.meta,
        "model": store.root / LINE,
        "another": store.root / LINE / "v1.0",
        "below another": store.root / LINE / "v1.0" / "sub",
        "new": store.root / "new",
    }


@pytest.mark.parametrize("way", ["root", "meta", "model", "another", "below another", "new"])
def test_a_directory_of_the_store_never_holds_other_files(
    store: Store, two: tuple[Resolved, Resolved], way: str
) -> None:
    """The only directory of the store that a version is written to is its own."""
    before = files_of(store.root)

    with pytest.raises(ConflictError, match="lies in the store"):
        checkout(store, two[1], output=_ways_into_the_store(store)[way], force=True)

    assert files_of(store.root) == before


def test_naming_the_own_directory_is_writing_in_place(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """However it is spelt, a checkout into the own directory is one without -o."""
    (tmp_path / "link").symlink_to(store.root)

    done = checkout(store, two[0], output=tmp_path / "link" / LINE / "v1.0")

    assert done.path == store.root / LINE / "v1.0"
    released = release(store, two[0], output=store.root / LINE / "v1.0")
    assert "manifest.json" in files_of(released.path)


def test_around_the_store_but_never_into_it(store: Store, tmp_path: Path) -> None:
    """A directory that holds the store may be written to, unless a file would land in the store."""
    source = write_model(tmp_path / "one", files={"tuned_models/llama_1b/v1.0/x": "planted"})
    (tmp_path / "two").mkdir()
    (tmp_path / "two/tuned_models").write_bytes(b"a file")
    commit(store, source, LINE, CommitOptions())
    commit(store, tmp_path / "two", LINE, CommitOptions(parents=[]))
    commit(store, write_model(tmp_path / "three"), LINE, CommitOptions())
    before = files_of(store.root)

    for version in ("v1.0", "v1.1"):
        with pytest.raises(ConflictError, match="into the store"):
            checkout(store, resolve(store, version), output=tmp_path, force=True)

    assert files_of(store.root) == before
    checkout(store, resolve(store, "v1.2"), output=tmp_path)
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="without /proc fewer of the dead are known")
def test_leftovers_of_killed_processes_go(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """A checkout removes the staging of processes that died here, and of no others."""
    out = tmp_path / "out"
    out.mkdir()
    program = f"from modelstore.ops import place as p; p.staging(p.Path({str(out)!r})).mkdir()"
    dead = subprocess.Popen([sys.executable, "-c", program], env=environment())
    dead.wait()
    unreaped = subprocess.Popen([sys.executable, "-c", program], env=environment())
    os.waitid(os.P_PID, unreaped.pid, os.WEXITED | os.WNOWAIT)
    assert len(list(out.iterdir())) == 2
    _, machine, pid, birth, rest = place.staging(out).name.split("-")
    reused = f".mstore-{machine}-{pid}-1-{rest}"
    stay = {f".mstore-{machine}-{pid}-{birth}-{rest}", f".mstore-00000000-{pid}-1-{rest}"}
    stay.add(f".mstore-{machine}-{os.getppid()}-{place.birth(os.getppid())}-{rest}")
    for name in (reused, *stay):
        (out / name).mkdir()
        (out / name / "0").write_bytes(b"half a file")

    checkout(store, two[0], output=out)

    assert {path.name for path in out.glob(".mstore-*")} == stay
    unreaped.wait()


def test_a_checkout_that_died_leaves_nothing_for_ever(
    store: Store, two: tuple[Resolved, Resolved], tmp_path: Path
) -> None:
    """Whatever step it was killed at, the next checkout comes out whole and leaves nothing beside."""
    out = tmp_path / "out"
    step = 1
    while crashes(lambda: checkout(store, two[0], output=out), step):
        step += 3
    assert step > 10

    checkout(store, two[1], output=out)

    assert files_of(out) == files_of(tmp_path / "one")
    assert not list(out.glob(".mstore-*"))


@pytest.mark.parametrize("name", ["v1", "1.0"])
def test_a_version_adopted_under_another_name_is_used_where_it_lies(root: Path, name: str) -> None:
    """No second copy is written beside it; released, it comes back in the usual directory."""
    old_tool.version(root / LINE, name, seed=1)
    before = files_of(root / LINE / name)
    adopt(root, plan_adopt(root))
    store = Store(root)
    version = resolve(store, f"{LINE}@v1.0")
    usual = root / LINE / "v1.0"

    for output in (None, root / LINE / name, usual):
        done = checkout(store, version, output=output)
        assert (done.path, done.written) == (root / LINE / name, ())
    assert set(files_of(usual)) <= {"manifest.json", "README.md", "model_info.json"}

    release(store, version)
    assert not (root / LINE / name).exists()
    assert checkout(store, version).path == usual
    assert {name: files_of(usual)[name] for name in before} == before
