"""Exports as an entry of the Hugging Face cache, read by that ecosystem's own clients."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelstore.errors import BadNameError, ConflictError, IntegrityError
from modelstore.ops.export import plan_export
from modelstore.ops.export_plan import ExportOptions
from modelstore.ops.hub_cache import CacheEntry, cache_place
from modelstore.ops.pointer import set_active, set_alias
from modelstore.store import Store
from modelstore.syscalls import Syscalls
from tests.exports import MODEL, exported, two_versions, version
from tests.faults import exchanged
from tests.models import files_of

REPO = f"mstore/{MODEL}"


@pytest.fixture
def directories(store: Store, tmp_path: Path) -> dict[str, Path]:
    """v1.0, which is ACTIVE, and v1.1."""
    return two_versions(store, tmp_path / "made")


def _entry(cache: Path, repo_id: str = REPO) -> CacheEntry:
    return CacheEntry.of(cache, repo_id)


def _commit_id(store: Store, ref: str) -> str:
    return str(version(store, f"{MODEL}@{ref}").id)[:40]


def test_the_client_finds_every_file(
    store: Store, tmp_path: Path, directories: dict[str, Path]
) -> None:
    """snapshot_download, without a network, gives the bytes that were committed, by every name."""
    hub = pytest.importorskip("huggingface_hub")
    set_alias(store, "prod", version(store, f"{MODEL}@v1.1"))
    for ref in ("v1.0", "v1.1"):
        exported(store, f"{MODEL}@{ref}", "hf-cache", tmp_path / "cache")
    named = {"v1.0": "v1.0", "main": "v1.0", "v1.1": "v1.1", "prod": "v1.1"}
    for revision, ref in {**named, _commit_id(store, "v1.1"): "v1.1"}.items():
        path = hub.snapshot_download(
            REPO, revision=revision, cache_dir=tmp_path / "cache", local_files_only=True
        )
        assert files_of(Path(path)) == files_of(directories[ref])


def test_the_cache_is_whole_and_shared(
    store: Store, tmp_path: Path, directories: dict[str, Path]
) -> None:
    """The client's own scan has no complaint, and equal files of two versions lie there once."""
    hub = pytest.importorskip("huggingface_hub")
    first = exported(store, f"{MODEL}@v1.0", "hf-cache", tmp_path / "cache")
    second = exported(store, f"{MODEL}@v1.1", "hf-cache", tmp_path / "cache")
    assert second.written == ("model.safetensors",)
    assert set(second.kept) == set(first.written) - {"model.safetensors"}
    found = hub.scan_cache_dir(tmp_path / "cache")
    assert not found.warnings
    (repo,) = found.repos
    assert (repo.repo_id, repo.repo_type) == (REPO, "model")
    assert {frozenset(one.refs) for one in repo.revisions} == {
        frozenset({"v1.0", "main"}),
        frozenset({"v1.1"}),
    }
    assert repo.size_on_disk == first.size + second.size


def test_names_are_those_of_the_server(
    store: Store, tmp_path: Path, directories: dict[str, Path]
) -> None:
    """Blobs are called by the ETags that `mstore serve` sends, and links lead to them relatively."""
    git = pytest.importorskip("modelstore.server.hub.git")
    exported(store, f"{MODEL}@v1.0", "hf-cache", tmp_path / "cache")
    resolved = version(store, f"{MODEL}@v1.0")
    snapshot = _entry(tmp_path / "cache").snapshots / _commit_id(store, "v1.0")
    for file in store.manifest(MODEL, resolved.entry).files:
        target = Path(os.readlink(snapshot / file.path))
        assert target.name == git.etag(file).strip('"')
        assert not target.is_absolute()


def test_again_writes_nothing(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """An export that is there already keeps all of it; one that was hurt is put right."""
    cache = tmp_path / "cache"
    done = exported(store, f"{MODEL}@v1.0", "hf-cache", cache)
    before = {path: path.lstat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    again = exported(store, f"{MODEL}@v1.0", "hf-cache", cache)
    assert (again.written, set(again.kept)) == ((), set(done.written))
    assert before == {path: path.lstat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    snapshot = _entry(cache).snapshots / _commit_id(store, "v1.0")
    blob = (snapshot / "config.json").resolve()
    blob.write_bytes(b"{}")
    (snapshot / "README.md").unlink()
    (snapshot / "tokenizer.json").unlink()
    (snapshot / "tokenizer.json").symlink_to("../../blobs/other")
    mended = exported(store, f"{MODEL}@v1.0", "hf-cache", cache)
    assert mended.written == ("config.json",)
    assert files_of(snapshot) == files_of(directories["v1.0"])


def test_main_is_active_only(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """refs/main follows ACTIVE, or is asked for, and is not taken from another model."""
    cache = tmp_path / "cache"
    exported(store, f"{MODEL}@v1.1", "hf-cache", cache)
    assert not (_entry(cache).refs / "main").exists()
    set_active(store, version(store, f"{MODEL}@v1.1"))
    exported(store, f"{MODEL}@v1.1", "hf-cache", cache)
    assert (_entry(cache).refs / "main").read_text() == _commit_id(store, "v1.1")
    exported(store, f"{MODEL}@v1.0", "hf-cache", cache)
    assert (_entry(cache).refs / "main").read_text() == _commit_id(store, "v1.1")
    exported(store, f"{MODEL}@v1.0", "hf-cache", cache, main=True)
    assert (_entry(cache).refs / "main").read_text() == _commit_id(store, "v1.0")
    theirs = _entry(cache, "some/model").refs / "main"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("a" * 40)
    done = exported(store, f"{MODEL}@v1.1", "hf-cache", cache, repo_id="some/model")
    assert "--main" in done.warnings[0]
    assert done.names == ("some/model@v1.1",)
    assert theirs.read_text() == "a" * 40


def test_what_is_refused(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """Ids that lead elsewhere, the store itself, and what stands in the way are clear errors."""
    for repo_id in ("../x", "a/b/c", "a--b", "/etc", "a/..", "", "-x", "a/b "):
        with pytest.raises(BadNameError):
            exported(store, f"{MODEL}@v1.0", "hf-cache", tmp_path, repo_id=repo_id or "/")
    with pytest.raises(ConflictError, match="lies in the store"):
        exported(store, f"{MODEL}@v1.0", "hf-cache", store.root / "cache")
    snapshot = _entry(tmp_path / "cache").snapshots / _commit_id(store, "v1.0")
    snapshot.parent.mkdir(parents=True)
    snapshot.write_text("")
    with pytest.raises(ConflictError, match="no directory"):
        exported(store, f"{MODEL}@v1.0", "hf-cache", tmp_path / "cache")


def test_a_plan_changes_nothing(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """What would be written is told without writing."""
    options = ExportOptions(tmp_path / "cache")
    plan = plan_export(store, version(store, f"{MODEL}@v1.0"), "hf-cache", options)
    assert set(plan.written) == set(files_of(directories["v1.0"]))
    assert not (tmp_path / "cache").exists()


def test_damage_is_not_exported(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """A version with a damaged blob is refused, and no name leads to what was written."""
    manifest = store.manifest(MODEL, version(store, f"{MODEL}@v1.0").entry)
    file = manifest.file("model.safetensors")
    assert file is not None
    frame = store.blobs.path(max(file.spans, key=lambda span: span.size).blob)
    frame.chmod(0o600)
    data = bytearray(frame.read_bytes())
    data[-1] ^= 1
    frame.write_bytes(data)
    with pytest.raises(IntegrityError):
        exported(store, f"{MODEL}@v1.0", "hf-cache", tmp_path / "cache")
    entry = _entry(tmp_path / "cache")
    assert [p for p in entry.directory.rglob("*") if not p.is_dir()] == []


class _NoSymlinks(Syscalls):
    def symlink(self, target: str, path: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_where_there_are_no_links(
    store: Store, tmp_path: Path, directories: dict[str, Path]
) -> None:
    """On such a file system a snapshot holds copies, as the Hub's own clients do it there."""
    cache = tmp_path / "cache"
    snapshot = _entry(cache).snapshots / _commit_id(store, "v1.0")
    with exchanged(_NoSymlinks()):
        exported(store, f"{MODEL}@v1.0", "hf-cache", cache)
        assert files_of(snapshot) == files_of(directories["v1.0"])
        assert not any(path.is_symlink() for path in snapshot.rglob("*"))
        before = {path: path.stat().st_ino for path in cache.rglob("*")}
        exported(store, f"{MODEL}@v1.0", "hf-cache", cache)
        assert before == {path: path.stat().st_ino for path in cache.rglob("*")}
        (snapshot / "config.json").write_text("{}")
        exported(store, f"{MODEL}@v1.0", "hf-cache", cache)
    assert files_of(snapshot) == files_of(directories["v1.0"])


def test_several_at_once(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """Exports to one cache at the same time do not disturb each other."""
    refs = [f"{MODEL}@v1.0", f"{MODEL}@v1.1"] * 3
    with ThreadPoolExecutor(len(refs)) as pool:
        done = [
            pool.submit(exported, Store(store.root), ref, "hf-cache", tmp_path / "cache")
            for ref in refs
        ]
        assert all(one.result().path == tmp_path / "cache" for one in done)
    for ref, directory in directories.items():
        snapshot = _entry(tmp_path / "cache").snapshots / _commit_id(store, ref)
        assert files_of(snapshot) == files_of(directory)


def test_where_the_cache_is() -> None:
    """The variables of the clients are heeded in their order."""
    home = Path("/home/ann")
    assert cache_place({}, home) == home / ".cache/huggingface/hub"
    assert cache_place({"XDG_CACHE_HOME": "/c"}, home) == Path("/c/huggingface/hub")
    assert cache_place({"XDG_CACHE_HOME": "/c", "HF_HOME": "/h"}, home) == Path("/h/hub")
    both = {"HF_HOME": "/h", "HF_HUB_CACHE": "/k"}
    assert cache_place(both, home) == Path("/k")


def test_the_model_computes_the_same(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version is loaded by its name, offline, and its logits are equal to the bit."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from modelstore.ops.commit import CommitOptions, commit
    from tests.training.tiny import make_model

    directory = make_model(tmp_path / "tiny")
    commit(store, directory, MODEL, CommitOptions())
    exported(store, f"{MODEL}@v1.0", "hf-cache", tmp_path / "cache")
    words = torch.arange(12)[None]
    where = {"revision": "v1.0", "cache_dir": tmp_path / "cache"}
    loaded = transformers.AutoModelForCausalLM.from_pretrained(REPO, **where)
    tokenizer = transformers.AutoTokenizer.from_pretrained(REPO, **where)
    local = transformers.AutoModelForCausalLM.from_pretrained(directory)
    assert torch.equal(loaded(words).logits, local(words).logits)
    assert tokenizer("abc").input_ids
