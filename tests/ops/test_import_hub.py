"""Imports from the Hugging Face cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import IntegrityError, NotFoundError, StoreError, UsageError
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.hub_cache import CacheEntry, parse_repo_id
from modelstore.ops.import_hub import _base_model
from modelstore.ops.pointer import set_active
from modelstore.store import Store, create
from tests.exports import MODEL, exported, imported, two_versions, version
from tests.models import files_of, write_model

COMMITS = ("0" * 39 + "1", "0" * 39 + "2")


def _cached(
    cache: Path, files: Mapping[str, bytes], commit: str, ref: str = "main", repo_id: str = "a/tiny"
) -> Path:
    """Put files into a cache as the Hub's client does; return the snapshot."""
    entry = CacheEntry.of(cache, repo_id)
    for directory in (entry.blobs, entry.refs, entry.snapshots / commit):
        directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        if not name.endswith(".safetensors"):
            digest = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        (entry.blobs / digest).write_bytes(data)
        path = entry.snapshots / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to("../" * (2 + name.count("/")) + f"blobs/{digest}")
    (entry.refs / ref).write_text(commit)
    return entry.snapshots / commit


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """What a small model consists of."""
    card = {"README.md": "---\nlicense: mit\nbase_model:\n- some/base\n---\nText\n", "a/b.txt": "b"}
    return files_of(write_model(tmp_path / "made", files=card))


def test_a_download_becomes_a_version(
    store: Store, tmp_path: Path, files: dict[str, bytes]
) -> None:
    """Its files are those of the snapshot, and it says where they are from and what they were."""
    _cached(tmp_path / "cache", files, COMMITS[0])
    (done,) = imported(store, "hf:a/tiny", place=tmp_path / "cache")
    assert done.ref == "tiny@v1.0"
    resolved = version(store, done.ref)
    manifest = store.manifest(resolved.model, resolved.entry)
    assert {file.path for file in manifest.files} == set(files)
    assert manifest.base_model == "some/base"
    assert manifest.message == f"import hf:a/tiny@{COMMITS[0][:12]} (main)"
    assert manifest.environment == {
        "imported_from": "hf:a/tiny",
        "imported_revision": COMMITS[0],
    }
    exported(store, done.ref, "dir", tmp_path / "out")
    assert files_of(tmp_path / "out") == files


@pytest.mark.parametrize("how", ["hf:a/tiny", "entry", "snapshot", "hf:a/tiny@main", "commit"])
def test_ways_to_name_it(store: Store, tmp_path: Path, files: dict[str, bytes], how: str) -> None:
    """A name, the model's directory, a snapshot's, a ref and a commit all lead to it."""
    snapshot = _cached(tmp_path / "cache", files, COMMITS[0])
    text: object = {
        "entry": snapshot.parent.parent,
        "snapshot": snapshot,
        "commit": f"hf:a/tiny@{COMMITS[0]}",
    }.get(how, how)
    (done,) = imported(store, text, "other", place=tmp_path / "cache")
    assert (done.ref, done.source.revision) == ("other@v1.0", COMMITS[0])


def test_it_is_imported_once(store: Store, tmp_path: Path, files: dict[str, bytes]) -> None:
    """What was imported before is known again, though other versions came since."""
    cache = tmp_path / "cache"
    _cached(cache, files, COMMITS[0])
    imported(store, "hf:a/tiny", place=cache)
    _cached(cache, {**files, "config.json": b"{}"}, COMMITS[1])
    assert [one.ref for one in imported(store, "hf:a/tiny", place=cache)] == ["tiny@v1.1"]
    again = imported(store, f"hf:a/tiny@{COMMITS[0]}", place=cache)
    assert [(one.ref, one.made) for one in again] == [("tiny@v1.0", None)]
    assert len(store.state(ModelName("tiny")).entries()) == 2


def test_a_newer_revision_follows_on_the_one_before(
    store: Store, tmp_path: Path, files: dict[str, bytes]
) -> None:
    """What was trained in between is not its parent."""
    _cached(tmp_path / "cache", files, COMMITS[0])
    imported(store, "hf:a/tiny", place=tmp_path / "cache")
    tuned = write_model(tmp_path / "tuned", step=1e-3)
    commit(store, tuned, ModelName("tiny"), CommitOptions())
    _cached(tmp_path / "cache", {**files, "config.json": b"{}"}, COMMITS[1])
    (done,) = imported(store, "hf:a/tiny", place=tmp_path / "cache")
    assert done.made is not None
    assert (done.ref, done.made.parent) == ("tiny@v1.2", "tiny@v1.0")


def test_all_revisions(store: Store, tmp_path: Path) -> None:
    """What was exported comes back in its order, whichever was exported first."""
    directories = two_versions(store, tmp_path / "made")
    set_active(store, version(store, f"{MODEL}@v1.1"))
    for ref in ("v1.1", "v1.0"):
        exported(store, f"{MODEL}@{ref}", "hf-cache", tmp_path / "cache")
    other = create(tmp_path / "other")
    done = imported(other, f"hf:mstore/{MODEL}", place=tmp_path / "cache", everything=True)
    assert [one.ref for one in done] == [f"{MODEL}@v1.0", f"{MODEL}@v1.1"]
    for ref, directory in directories.items():
        exported(other, f"{MODEL}@{ref}", "dir", tmp_path / "out" / ref)
        assert files_of(tmp_path / "out" / ref) == files_of(directory)
    again = imported(other, f"hf:mstore/{MODEL}", place=tmp_path / "cache", everything=True)
    assert [one.made for one in again] == [None, None]


def test_which_revision(store: Store, tmp_path: Path, files: dict[str, bytes]) -> None:
    """Without main, one of several must be named; one that is not there is an error with a way out."""
    cache = tmp_path / "cache"
    _cached(cache, files, COMMITS[0], "v1")
    assert imported(store, "hf:a/tiny", "one", place=cache)[0].ref == "one@v1.0"
    _cached(cache, {**files, "x.txt": b"x"}, COMMITS[1], "v2")
    with pytest.raises(UsageError, match="v1, v2"):
        imported(store, "hf:a/tiny", "two", place=cache)
    with pytest.raises(NotFoundError, match="no revision 'v3'") as caught:
        imported(store, "hf:a/tiny@v3", "two", place=cache)
    assert caught.value.hint == "hf download a/tiny --revision v3"
    with pytest.raises(NotFoundError, match="no model b/tiny"):
        imported(store, "hf:b/tiny", place=cache)
    for revision in ("../../../blobs", "..", "/etc/passwd", "a\0b"):
        with pytest.raises(NotFoundError, match="no revision"):
            imported(store, f"hf:a/tiny@{revision}", "two", place=cache)


def test_part_of_a_model(store: Store, tmp_path: Path, files: dict[str, bytes]) -> None:
    """What somebody only looked at, or a download that was cut short, is no version."""
    cache = tmp_path / "cache"
    _cached(cache, {"config.json": b"{}"}, COMMITS[0])
    with pytest.raises(NotFoundError, match="no weights") as caught:
        imported(store, "hf:a/tiny", place=cache)
    assert "hf download a/tiny" in caught.value.hint
    index = {"weight_map": {"w": "model.safetensors", "v": "model-00002-of-00002.safetensors"}}
    partly = {**files, "model.safetensors.index.json": json.dumps(index).encode()}
    _cached(cache, partly, COMMITS[1])
    with pytest.raises(NotFoundError, match=r"'model-00002-of-00002\.safetensors' is missing"):
        imported(store, "hf:a/tiny", place=cache)
    _cached(cache, files, "a" * 40, "whole")
    done = imported(store, "hf:a/tiny", place=cache, everything=True)
    assert [one.source.revision for one in done] == ["a" * 40]
    assert len(done[0].source.warnings) == 2


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damage(store: Store, tmp_path: Path, files: dict[str, bytes], name: str) -> None:
    """A blob that is not what its name says is refused, and no version is made."""
    snapshot = _cached(tmp_path / "cache", files, COMMITS[0])
    blob = (snapshot / name).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    with pytest.raises(IntegrityError, match=f"'{name}' is damaged"):
        imported(store, "hf:a/tiny", place=tmp_path / "cache")
    assert not store.registry(ModelName("tiny")).exists()


@pytest.mark.parametrize(
    "target", ["/etc/hostname", "../../../secret", "nowhere", "../../refs/main"]
)
def test_links_that_lead_elsewhere(
    store: Store, tmp_path: Path, files: dict[str, bytes], target: str
) -> None:
    """Only blobs of the same model are followed to."""
    snapshot = _cached(tmp_path / "cache", files, COMMITS[0])
    (tmp_path / "cache/secret").write_text("secret")
    (snapshot / "x.txt").symlink_to(target)
    with pytest.raises(IntegrityError, match="no plain copy"):
        imported(store, "hf:a/tiny", place=tmp_path / "cache")


def test_directories_that_lead_elsewhere(
    store: Store, tmp_path: Path, files: dict[str, bytes]
) -> None:
    """Neither a linked directory in a snapshot, nor linked blobs, nor a linked snapshot are followed."""
    snapshot = _cached(tmp_path / "cache", files, COMMITS[0])
    (snapshot / "d").symlink_to("..")
    with pytest.raises(IntegrityError):
        imported(store, "hf:a/tiny", place=tmp_path / "cache")
    (snapshot / "d").unlink()
    blobs = CacheEntry.of(tmp_path / "cache", "a/tiny").blobs
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError):
        imported(store, "hf:a/tiny", place=tmp_path / "cache")
    linked = snapshot.with_name("b" * 40)
    linked.symlink_to(tmp_path / "made")
    with pytest.raises(NotFoundError):
        imported(store, f"hf:a/tiny@{'b' * 40}", place=tmp_path / "cache")


def test_blobs_that_models_share(store: Store, tmp_path: Path, files: dict[str, bytes]) -> None:
    """The newest clients keep contents once for all models of a cache, which is followed to."""
    snapshot = _cached(tmp_path / "cache", files, COMMITS[0])
    blob = (snapshot / "model.safetensors").resolve()
    shared = tmp_path / "cache/blobs/ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(f"../../blobs/ab/{shared.name}")
    with pytest.raises(IntegrityError):
        imported(store, "hf:a/tiny", place=tmp_path / "cache")
    (tmp_path / "cache/blobs/.huggingface-shared-blobs").write_text("1")
    (done,) = imported(store, "hf:a/tiny", place=tmp_path / "cache")
    assert done.source.expected["model.safetensors"] == blob.name


def test_other_directories(store: Store, tmp_path: Path, files: dict[str, bytes]) -> None:
    """A directory that is something else says what to do with it."""
    _cached(tmp_path / "cache", files, COMMITS[0])
    with pytest.raises(UsageError, match="Hugging Face cache") as caught:
        imported(store, tmp_path / "cache")
    assert caught.value.hint.startswith("import one: mstore import hf:a/tiny --from ")
    with pytest.raises(UsageError, match="plain directory") as caught:
        imported(store, tmp_path / "made")
    assert "mstore commit" in caught.value.hint
    (tmp_path / "datasets--a--b/snapshots").mkdir(parents=True)
    with pytest.raises(UsageError, match="but a dataset"):
        imported(store, tmp_path / "datasets--a--b")
    with pytest.raises(NotFoundError) as missing:
        imported(store, "a/tiny")
    assert missing.value.hint.endswith("mstore import hf:a/tiny")


@pytest.mark.parametrize(
    ("head", "found"),
    [
        ("base_model: some/base", "some/base"),
        ('base_model: "some/base"', "some/base"),
        ("license: mit\r\nbase_model:\r\n  - some/base\r\n  - other/base", "some/base"),
        ("model: x", ""),
        ("base_model: [a, b]", ""),
    ],
)
def test_the_base_of_a_card(tmp_path: Path, head: str, found: str) -> None:
    """The base that a model's card names is taken from where it stands."""
    (tmp_path / "README.md").write_bytes(f"---\n{head}\n---\nbase_model: no/no\n".encode())
    assert _base_model(tmp_path) == found


@given(st.text(max_size=40))
def test_no_id_leads_out_of_the_cache(text: str) -> None:
    """Whatever an id is, its entry lies right in the cache, or it is refused."""
    try:
        entry = CacheEntry.of(Path("/cache"), parse_repo_id(text))
    except StoreError:
        return
    assert entry.directory.parent == Path("/cache")
    assert "/" not in entry.directory.name


@given(st.binary(max_size=300), st.text(max_size=20))
def test_refs_of_any_content(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    """A ref that holds anything but a commit is none."""
    place = tmp_path_factory.mktemp("cache")
    entry = CacheEntry(place, "a/b")
    entry.refs.mkdir()
    (entry.refs / "main").write_bytes(data)
    assert entry.ref("main") == "" or len(entry.ref("main")) in {40, 64}
    assert entry.commit(name) == ""
