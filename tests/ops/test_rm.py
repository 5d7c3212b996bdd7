"""Removed versions are gone for every reader, and come back exactly as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.errors import AmbiguousError, ConflictError, NotFoundError
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.place import RUNS, STARTED_FROM
from modelstore.ops.pointer import set_active, set_alias
from modelstore.ops.resolve import resolve
from modelstore.ops.rm import left_behind, plan_rm, rm
from modelstore.ops.status import status
from modelstore.ops.undelete import resolve_removed, undelete
from modelstore.ops.verify import verify
from modelstore.state import Change
from modelstore.store import Store
from tests.crashes import crashes
from tests.models import files_of, write_model

LINE = ModelName("llama_1b")


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A model with three versions, each made from the one before; v1.0 is ACTIVE."""
    for number in range(3):
        source = write_model(tmp_path / f"run{number}", step=number * 1e-3)
        commit(store, source, LINE, CommitOptions(message=f"number {number}"))
    return store


def remove(store: Store, *refs: str, force: bool = False) -> None:
    """Remove versions."""
    rm(store, plan_rm(store, [resolve(store, ref) for ref in refs], force=force))


def test_a_removed_version_is_no_version_any_more(line: Store) -> None:
    """It is not listed, not found, its directory is gone, and its number is taken."""
    before = line.state(LINE).entry("v1.1")
    assert before is not None
    remove(line, "v1.1")
    state = line.state(LINE)
    assert [str(version) for version in state.versions()] == ["v1.0", "v1.2"]
    assert [str(version) for version in state.removed()] == ["v1.1"]
    assert state.removed_entry("1.1.0") == before
    assert not line.version_dir(LINE, "v1.1").exists()
    for ref in ("v1.1", "llama_1b@v1.1", str(before.id)[:12]):
        with pytest.raises(NotFoundError, match=r"v1\.1 was removed") as caught:
            resolve(line, ref)
        assert caught.value.hint == "bring it back with: mstore undelete llama_1b@v1.1"


def test_children_keep_working(line: Store) -> None:
    """A version whose bases were the removed one's blobs is sound, with and without a gc."""
    remove(line, "v1.1")
    assert verify(line, resolve(line, "v1.2")).sound
    gc(line, plan_gc(line))
    assert verify(line, resolve(line, "v1.2")).sound
    assert verify(line, resolve(line, "v1.0")).sound


@pytest.mark.parametrize("collected", [False, True])
def test_what_comes_back_is_what_was_removed(line: Store, collected: bool) -> None:
    """Entry, directory with its files, and content are the same, whether or not a gc ran."""
    resolved = resolve(line, "v1.1")
    checkout(line, resolved)
    directory = line.version_dir(LINE, "v1.1")
    before = files_of(directory)
    remove(line, "v1.1")
    if collected:
        gc(line, plan_gc(line))
    done = undelete(line, resolve_removed(line, "v1.1"))
    assert done.directories == (directory,)
    assert (done.blobs > 0) == collected
    assert resolve(line, "v1.1") == resolved
    assert files_of(directory) == before
    assert verify(line, resolved).sound
    assert line.state(LINE).removed() == []
    assert status(line).clean
    assert [copy.path for copy in status(line).copies] == [directory]


def test_a_directory_that_was_lost_is_made_again(line: Store) -> None:
    """Without the one in the trash, undelete writes the small files as they were."""
    directory = line.version_dir(LINE, "v1.1")
    before = files_of(directory)
    remove(line, "v1.1")
    trash = line.blobs.trash()
    for item in trash.content():
        trash.purge(item)
    undelete(line, resolve_removed(line, "v1.1"))
    assert files_of(directory) == before


def test_after_the_purge_it_is_gone(line: Store) -> None:
    """Undelete says so, and changes nothing."""
    remove(line, "v1.1")
    gc(line, plan_gc(line, purge_now=True))
    with pytest.raises(NotFoundError, match=r"llama_1b@v1\.1 is gone"):
        undelete(line, resolve_removed(line, "v1.1"))
    assert [str(version) for version in line.state(LINE).removed()] == ["v1.1"]
    assert plan_gc(line).frames == {}


def test_the_number_is_never_given_again(line: Store, tmp_path: Path) -> None:
    """Neither the next commit nor one that asks for it gets the number."""
    remove(line, "v1.2")
    source = write_model(tmp_path / "more", seed=9)
    with pytest.raises(ConflictError, match=r"v1\.2 was removed"):
        commit(line, source, LINE, CommitOptions(version="v1.2"))
    assert commit(line, source, LINE, CommitOptions()).version == "v1.3"


def test_what_points_at_a_version_holds_it(line: Store) -> None:
    """ACTIVE and aliases must move first; the hint is the command that does it."""
    set_alias(line, "prod", resolve(line, "v1.1"))
    with pytest.raises(ConflictError, match="is ACTIVE") as active:
        remove(line, "v1.0")
    assert "mstore set-active llama_1b@v1.2" in active.value.hint
    with pytest.raises(ConflictError, match="'prod'") as alias:
        remove(line, "v1.1", force=True)
    assert "mstore alias prod" in alias.value.hint
    assert len(line.state(LINE).versions()) == 3


def test_what_became_active_since_is_not_removed(line: Store) -> None:
    """The pointers are looked at again under the lock."""
    plan = plan_rm(line, [resolve(line, "v1.1"), resolve(line, "v1.2")])
    set_active(line, resolve(line, "v1.2"))
    with pytest.raises(ConflictError, match="is ACTIVE"):
        rm(line, plan)
    assert len(line.state(LINE).versions()) == 3


def test_what_was_removed_since_is_said(line: Store) -> None:
    """Of two that remove the same version, the second is told."""
    plan = plan_rm(line, [resolve(line, "v1.1")])
    rm(line, plan)
    with pytest.raises(NotFoundError, match="removed meanwhile"):
        rm(line, plan)


@pytest.mark.parametrize("name", ["config.json", "checkpoint-9/optimizer.pt"])
def test_local_changes_are_not_thrown_away(line: Store, name: str) -> None:
    """A changed file, or one that nothing else has, stops rm; with force it goes to the trash."""
    checkout(line, resolve(line, "v1.1"))
    path = line.version_dir(LINE, "v1.1") / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"weeks of work")
    with pytest.raises(ConflictError, match=name) as caught:
        remove(line, "v1.1")
    assert "mstore rm llama_1b@v1.1 -f" in caught.value.hint
    remove(line, "v1.1", force=True)
    undelete(line, resolve_removed(line, "v1.1"))
    assert path.read_bytes() == b"weeks of work"


def test_what_a_training_started_from_stays(line: Store) -> None:
    """A run that is not over names its version."""
    run = line.meta / RUNS / "one"
    run.mkdir()
    (run / STARTED_FROM).write_text("llama_1b@v1.1\n")
    with pytest.raises(ConflictError, match="training"):
        remove(line, "v1.1")
    remove(line, "v1.1", force=True)


def test_a_version_without_content_can_be_removed_and_put_back(line: Store) -> None:
    """There is nothing but its entry."""
    line.change(LINE, lambda _: Change("adopt", versions={"v0.9": {"seq": 4, "notes": "lost"}}))
    remove(line, "v0.9")
    assert undelete(line, resolve_removed(line, "v0.9")).blobs == 0
    assert resolve(line, "v0.9").entry.text("notes") == "lost"


def test_what_is_not_removed_cannot_be_undeleted(line: Store, tmp_path: Path) -> None:
    """A version that exists, one that never did, and a number that two models removed."""
    with pytest.raises(ConflictError, match="is not removed"):
        resolve_removed(line, "v1.1")
    with pytest.raises(NotFoundError):
        resolve_removed(line, "v7.0")
    for number in range(2):
        commit(line, tmp_path / f"run{number}", ModelName("other"), CommitOptions())
    remove(line, "llama_1b@v1.1", "other@v1.1")
    with pytest.raises(AmbiguousError):
        resolve_removed(line, "v1.1")
    assert str(resolve_removed(line, "other@v1.1")) == "other@v1.1"


def test_a_version_undeleted_twice_is_refused_the_second_time(line: Store) -> None:
    """Nothing is there to be done, and the state is that of the first."""
    remove(line, "v1.1")
    removed = resolve_removed(line, "v1.1")
    undelete(line, removed)
    with pytest.raises(ConflictError, match="is not removed"):
        undelete(line, removed)


def test_a_foreign_directory_in_its_place_is_left_alone(line: Store) -> None:
    """What somebody put where the version was stays; the version's own files are added."""
    remove(line, "v1.1")
    directory = line.version_dir(LINE, "v1.1")
    directory.mkdir()
    (directory / "mine.txt").write_text("mine")
    undelete(line, resolve_removed(line, "v1.1"))
    assert (directory / "mine.txt").read_text() == "mine"
    assert (directory / "manifest.json").exists()


# --- crashes


def test_rm_can_die_at_any_step(line: Store) -> None:
    """The version is there, whole, or removed; the same command, or a gc, finishes the rest."""
    step, died = 0, True
    while died:
        step += 1
        died = crashes(lambda: remove(line, "v1.1"), step)
        if line.state(LINE).entry("v1.1") is None:
            gc(line, plan_gc(line))
            assert left_behind(line, LINE) == []
            assert not line.version_dir(LINE, "v1.1").exists()
            undelete(line, resolve_removed(line, "v1.1"))
        else:
            assert died
        assert verify(line, resolve(line, "v1.1")).sound
    assert step > 5


def test_undelete_can_die_at_any_step(line: Store) -> None:
    """The version stays removed until its record is there, and the repeated command brings it back."""
    step, died = 0, True
    while died:
        step += 1
        remove(line, "v1.1")
        gc(line, plan_gc(line))
        died = crashes(lambda: undelete(line, resolve_removed(line, "v1.1")), step)
        if Store(line.root).state(LINE).entry("v1.1") is None:
            assert died
            undelete(line, resolve_removed(line, "v1.1"))
        assert verify(line, resolve(line, "v1.1")).sound
        assert verify(line, resolve(line, "v1.2")).sound
    assert step > 5
