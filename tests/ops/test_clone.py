"""A clone is a new store of what a remote has; a lazy one brings frames when they are needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelstore.api import ModelStore
from modelstore.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    UsageError,
    WrongKeyError,
)
from modelstore.names import ModelName
from modelstore.ops import present
from modelstore.ops.checkout import checkout
from modelstore.ops.clone import clone
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.fetch import fetch
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.pull import pull
from modelstore.ops.push import push
from modelstore.ops.remotes import Known, add, known, named, opened, remove
from modelstore.ops.resolve import resolve
from modelstore.ops.tracking import seen
from modelstore.ops.verify import verify
from modelstore.store import Store, create
from tests.crashes import crashes
from tests.models import files_of, write_model
from tests.ops.remotes import LINE, commit_model, files_out


@pytest.fixture
def url(store: Store, tmp_path: Path) -> str:
    """A directory to which a store of two versions was pushed as its origin."""
    commit_model(store, tmp_path / "run")
    commit_model(store, tmp_path / "run", step=1e-4)
    url = str(tmp_path / "remote")
    add(store, "origin", url)
    with opened(store) as place:
        push(store, place)
    return url


def test_a_clone_has_everything(store: Store, url: str, tmp_path: Path) -> None:
    """All versions come, whole, and the remote is called origin."""
    done = clone(url, tmp_path / "clone")
    assert [(one.model, one.outcome) for one in done.models] == [(LINE, "new")]
    assert known(done.store) == [Known("origin", url, sealed=False)]
    assert files_out(done.store, "v1.1") == files_out(store, "v1.1")
    assert [f for f in fsck(done.store, Level.FULL).problems if f.serious] == []
    assert seen(done.store, "origin", LINE) == store.state(LINE).document


def test_a_clone_has_the_small_files_byte_for_byte(store: Store, tmp_path: Path) -> None:
    """They are made again, whatever the order in which metrics and parameters were given."""
    options = CommitOptions(metrics={"zeta": 1.5, "alpha": 2}, parameters={"z": 1, "a": 2})
    commit(store, write_model(tmp_path / "run"), LINE, options)
    url = str(tmp_path / "remote")
    add(store, "origin", url)
    with opened(store) as place:
        push(store, place)
    for lazy in (False, True):
        done = clone(url, tmp_path / f"clone-{lazy}", lazy=lazy)
        home = done.store.version_dir(LINE, "v1.0")
        assert files_of(home) == files_of(store.version_dir(LINE, "v1.0"))
        assert fsck(done.store).sound


def test_one_model_can_be_cloned(store: Store, url: str, tmp_path: Path) -> None:
    """Of several models only the one that was named comes; one that is not there is an error."""
    commit(store, write_model(tmp_path / "n", seed=9), ModelName("n"), CommitOptions())
    with opened(store) as place:
        push(store, place)
    done = clone(url, tmp_path / "clone", [ModelName("n")])
    assert done.store.models() == ["n"]
    with pytest.raises(NotFoundError, match="has no model 'x'"):
        clone(url, tmp_path / "another", [ModelName("x")])


def test_a_lazy_clone_brings_frames_when_they_are_needed(
    store: Store, url: str, tmp_path: Path
) -> None:
    """It begins with manifests only, and a checkout, a load and a verify bring what they need."""
    done = clone(url, tmp_path / "clone", lazy=True)
    lazy = done.store
    assert {len(list(lazy.blobs.iter_digests()))} == {2}
    gc(lazy, plan_gc(lazy))
    assert [f for f in fsck(lazy, Level.FULL).problems if f.serious] == []
    out = checkout(lazy, resolve(lazy, "v1.0"), output=tmp_path / "out").path
    assert files_of(out) == files_out(store, "v1.0")
    loaded = ModelStore(lazy).load("v1.1")
    assert loaded.keys() == ModelStore(store).load("v1.1").keys()
    assert verify(lazy, resolve(lazy, "v1.1")).sound
    assert set(lazy.blobs.iter_digests()) == set(store.blobs.iter_digests())


def test_what_comes_for_a_checkout_is_written_while_it_is_proved(
    store: Store, url: str, tmp_path: Path
) -> None:
    """Files of which something came are whole then, also where other parts were here already."""
    lazy = clone(url, tmp_path / "clone", lazy=True).store
    for version in ("v1.0", "v1.1"):
        with present.unpacked(lazy, resolve(lazy, version), lambda one: one.files) as unpacked:
            assert unpacked is not None
            manifest = lazy.manifest(LINE, resolve(lazy, version).entry)
            assert all(map(unpacked.has, [f for f in manifest.files if "model" in f.path]))
        out = checkout(lazy, resolve(lazy, version), output=tmp_path / version).path
        assert files_of(out) == files_out(store, version)
    with present.unpacked(lazy, resolve(lazy, "v1.1"), lambda one: one.files) as unpacked:
        assert unpacked is None


def test_a_lazy_clone_commits_and_pushes(store: Store, url: str, tmp_path: Path) -> None:
    """What it never had is at the remote already, so nothing of it is missed."""
    lazy = clone(url, tmp_path / "clone", lazy=True).store
    commit_model(lazy, tmp_path / "run", step=3e-4)
    with opened(lazy) as place:
        [done] = push(lazy, place)
        assert done.outcome == "forward"
    with opened(store) as place:
        [back] = pull(store, place)
    assert back.versions == ("v1.2",)
    assert verify(store, resolve(store, "v1.2")).sound


def test_a_git_clone_of_the_small_files_becomes_whole_by_a_pull(
    store: Store, url: str, tmp_path: Path
) -> None:
    """Registries without `.mstore` come with Git; a pull brings the content."""
    shutil.copytree(store.root, tmp_path / "git", ignore=shutil.ignore_patterns(".mstore"))
    cloned = Store(tmp_path / "git")
    with opened(cloned, url) as place:
        pull(cloned, place)
    assert files_out(cloned, "v1.1") == files_out(store, "v1.1")
    assert [f for f in fsck(cloned, Level.FULL).problems if f.serious] == []


def test_a_clone_overwrites_nothing(store: Store, url: str, tmp_path: Path) -> None:
    """Where there is something, or nothing to clone, nothing is changed."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(ConflictError, match="not empty"):
        clone(url, tmp_path / "full")
    with pytest.raises(ConflictError, match="not empty"):
        clone(url, store.root)
    (tmp_path / "void").mkdir()
    with pytest.raises(NotFoundError, match="no store at"):
        clone(str(tmp_path / "void"), tmp_path / "clone")
    assert not (tmp_path / "clone").exists()
    assert files_of(tmp_path / "full") == {"file": b"mine"}


def test_a_clone_that_is_killed_anywhere_goes_on(url: str, tmp_path: Path) -> None:
    """The directory is absent or a store, and the same command completes it."""
    for step in range(1, 2000, 61):
        root = tmp_path / f"clone{step}"
        if not crashes(lambda root=root: clone(url, root), step):  # type: ignore[misc]
            break
        done = clone(url, root)
        assert [f for f in fsck(done.store, Level.QUICK).problems if f.serious] == []
        assert len(done.store.state(LINE).versions()) == 2
        shutil.rmtree(root)
    assert step > 100


def test_a_clone_of_a_damaged_remote_publishes_nothing(url: str, tmp_path: Path) -> None:
    """A frame that is not what it should be is an error, and no version is there."""
    largest = max(Path(url, "blobs").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    largest.chmod(0o644)
    data = bytearray(largest.read_bytes())
    data[-1] ^= 1
    largest.write_bytes(data)
    with pytest.raises(IntegrityError, match=largest.name):
        clone(url, tmp_path / "clone")
    assert Store(tmp_path / "clone").models() == []


# --- names of remotes


def test_remotes_have_names(store: Store, url: str, tmp_path: Path) -> None:
    """A name is kept with its address, given once, and forgotten again."""
    with pytest.raises(ConflictError, match="the remote 'origin' is"):
        add(store, "origin", str(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match="cannot be the name"):
        add(store, "../x", str(tmp_path / "elsewhere"))
    with pytest.raises(NotFoundError, match="no remote 'x'"), opened(store, "x"):
        pass
    remove(store, "origin")
    assert named(store, "origin") is None
    assert seen(store, "origin", LINE) is None
    with opened(store, url) as place:
        assert place.name == ""


@pytest.fixture
def _cryptography() -> None:
    pytest.importorskip("cryptography")


@pytest.mark.usefixtures("_cryptography")
def test_an_encrypted_remote_shows_nothing_and_takes_one_key(store: Store, tmp_path: Path) -> None:
    """What is pushed there can be cloned with the passphrase, and with no other."""
    commit_model(store, tmp_path / "run")
    store.environment = {"MSTORE_PASSPHRASE": "four words or more"}
    url = str(tmp_path / "sealed")
    added, _ = add(store, "origin", url, encrypt=True)
    assert added.sealed
    with opened(store) as place:
        [done] = push(store, place)
    assert done.outcome == "new"
    names = [path.name for path in Path(url).rglob("*")]
    assert not any("registry" in name or name == "m" for name in names)
    cloned = clone(url, tmp_path / "clone", environment=store.environment)
    assert files_out(cloned.store, "v1.0") == files_out(store, "v1.0")
    for environment in ({}, {"MSTORE_PASSPHRASE": "another"}):
        with pytest.raises(WrongKeyError):
            clone(url, tmp_path / "no", environment=environment)
        assert not (tmp_path / "no").exists()


def test_gc_keeps_what_was_fetched(store: Store, url: str, tmp_path: Path) -> None:
    """Frames of versions that were seen at a remote stay, though no registry of ours has them."""
    other = create(tmp_path / "other")
    add(other, "origin", url)
    with opened(other) as place:
        fetch(other, place)
    plan = plan_gc(other)
    assert plan.frames == {}
    remove(other, "origin")
    assert len(plan_gc(other).frames) == len(list(store.blobs.iter_digests()))
