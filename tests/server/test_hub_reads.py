"""What the Hub's clients ask, and what they are answered."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.server.hub.ids import commit_id
from modelstore.store import Store
from tests.server.conftest import MODEL, Scene
from tests.server.live import serving

API = "/api/models/llama_1b"
FILES = {
    "README.md", "config.json", "empty.txt", "extra/deep/größe.txt", "extra/vocab.txt",
    "model.safetensors", "pytorch_model.bin", "tokenizer.json",
}  # fmt: skip


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- what a repository is


@pytest.mark.parametrize("repo", ["llama_1b", "mstore/llama_1b"])
def test_a_line_is_a_repository_and_active_its_main(scene: Scene, repo: str) -> None:
    """A line is called by its name, alone or below mstore, and is at its ACTIVE version."""
    answer = scene.live.ask(f"/api/models/{repo}?blobs=true")
    assert answer.status == 200
    info = answer.json
    assert (info["id"], info["sha"]) == (repo, scene.commit_id("v1.1"))
    assert {one["rfilename"] for one in info["siblings"]} == FILES
    assert info["private"] is False
    assert info["gated"] is False
    assert (info["library_name"], info["pipeline_tag"]) == ("transformers", "text-generation")
    assert info["safetensors"]["total"] == 96 * 16 + 32 * 16 + 16


@pytest.mark.parametrize("revision", ["v1.0", "1.0", "prod", "ACTIVE~1", "id"])
def test_versions_aliases_and_ids_are_revisions(scene: Scene, revision: str) -> None:
    """A revision is anything that means a version, also the 40 digits that answers name it by."""
    commit = scene.commit_id("v1.0")
    answer = scene.live.ask(f"{API}/revision/{commit if revision == 'id' else revision}")
    assert answer.json["sha"] == commit


def test_the_files_of_the_tree_have_the_digests_that_git_gives(scene: Scene) -> None:
    """Sizes, SHA-256 of weights and git's names of small files are those of the directory."""
    rows = {row["path"]: row for row in scene.live.ask(f"{API}/tree/v1.1?recursive=true").json}
    assert {path for path, row in rows.items() if row["type"] == "file"} == FILES
    assert {path for path, row in rows.items() if row["type"] == "directory"} == {
        "extra", "extra/deep",
    }  # fmt: skip
    directory = scene.directories["v1.1"]
    for path in FILES:
        row, file = rows[path], directory / path
        assert row["size"] == file.stat().st_size
        if path.endswith((".safetensors", ".bin")):
            assert row["lfs"]["oid"] == _sha256(file)
        else:
            body = file.read_bytes()
            assert row["oid"] == hashlib.sha1(b"blob %d\0%s" % (len(body), body)).hexdigest()
    assert not [row for row in rows.values() if "xetHash" in row]


@pytest.mark.needs("git")
def test_directories_have_the_names_that_git_gives_their_trees(
    scene: Scene, tmp_path: Path
) -> None:
    """The oid of a directory without weights is that of its tree in git."""
    rows = {row["path"]: row for row in scene.live.ask(f"{API}/tree/main").json}

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    extra = scene.directories["v1.1"] / "extra"
    git("--work-tree", str(extra.parent), "add", "extra")
    assert git("write-tree", "--prefix=extra/") == rows["extra"]["oid"]


def test_a_tree_is_listed_from_any_directory_on(scene: Scene) -> None:
    """Without `recursive` only what lies directly in the directory is listed."""
    rows = scene.live.ask(f"{API}/tree/main/extra?expand=true").json
    assert [(row["type"], row["path"]) for row in rows] == [
        ("directory", "extra/deep"), ("file", "extra/vocab.txt"),
    ]  # fmt: skip
    assert rows[1]["lastCommit"]["id"] == scene.commit_id("v1.1")
    assert rows[1]["lastCommit"]["title"] == "v1.1: message v1.1"


def test_a_long_tree_comes_in_pages(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Link` leads from page to page until every row was there once."""
    monkeypatch.setattr("modelstore.server.hub.tree.PAGE", 3)
    path, seen = f"{API}/tree/main?recursive=true", []
    while path:
        answer = scene.live.ask(path)
        seen += [row["path"] for row in answer.json]
        link = answer.headers.get("link", "")
        path = link[len(f"<{scene.live.url}") : link.index(">")] if link else ""
    assert len(seen) == len(set(seen)) == len(FILES) + 2


@pytest.mark.parametrize("form", [True, False])
def test_paths_are_told_about_by_name(scene: Scene, form: bool) -> None:
    """A form or JSON names paths; those that are not there are left out."""
    body = b"paths=config.json&paths=extra&paths=no.txt&expand=False"
    kind = "application/x-www-form-urlencoded"
    if not form:
        body, kind = b'{"paths": ["config.json", "extra", "no.txt"]}', "application/json"
    answer = scene.live.ask(f"{API}/paths-info/main", "POST", {"Content-Type": kind}, body)
    found = [(row["type"], row["path"]) for row in answer.json]
    assert found == [("file", "config.json"), ("directory", "extra")]


def test_refs_and_commits_tell_the_history(scene: Scene) -> None:
    """Main is a branch, versions and aliases are tags, and a commit descends from its parents."""
    refs = scene.live.ask(f"{API}/refs").json
    assert [(b["name"], b["targetCommit"]) for b in refs["branches"]] == [
        ("main", scene.commit_id("v1.1"))
    ]
    assert {t["name"]: t["targetCommit"] for t in refs["tags"]} == {
        "v1.0": scene.commit_id("v1.0"),
        "v1.1": scene.commit_id("v1.1"),
        "prod": scene.commit_id("v1.0"),
    }
    assert refs["converts"] == []
    answer = scene.live.ask(f"{API}/commits/main")
    assert [row["id"] for row in answer.json] == [
        scene.commit_id("v1.1"), scene.commit_id("v1.0"),
    ]  # fmt: skip
    assert answer.json[0]["title"] == "v1.1: message v1.1"
    assert answer.json[0]["message"] == "more"
    assert answer.json[0]["authors"] == [{"user": "Ann"}]


def test_small_questions_are_answered(scene: Scene) -> None:
    """Clients ask who they are, whether a card is well-formed, and which models there are."""
    assert scene.live.ask("/api/whoami-v2").json["name"] == "mstore"
    assert scene.live.ask("/api/validate-yaml", "POST", body=b"{}").json["errors"] == []
    assert [one["id"] for one in scene.live.ask("/api/models").json] == ["mstore/llama_1b"]


# --- files


@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
def test_a_file_is_what_was_committed(scene: Scene, version: str) -> None:
    """GET gives every byte, and HEAD the same headers: ETag, length, commit."""
    for path in FILES - {"pytorch_model.bin", "extra/deep/größe.txt"}:
        url = f"/mstore/llama_1b/resolve/{version}/{path}"
        answer, head = scene.live.ask(url), scene.live.ask(url, "HEAD")
        data = (scene.directories[version] / path).read_bytes()
        assert (answer.status, answer.body, head.body) == (200, data, b"")
        for name in ("etag", "content-length", "x-repo-commit", "accept-ranges"):
            assert answer.headers[name] == head.headers[name]
        assert answer.headers["x-repo-commit"] == scene.commit_id(version)
        assert int(answer.headers["content-length"]) == len(data)
        assert "x-xet-hash" not in answer.headers


def test_a_name_that_is_not_ascii_can_be_had(scene: Scene) -> None:
    """Paths are UTF-8, percent-encoded."""
    answer = scene.live.ask("/llama_1b/resolve/main/extra/deep/gr%C3%B6%C3%9Fe.txt")
    assert answer.body == "ü".encode()
    assert "gr%C3%B6%C3%9Fe.txt" in answer.headers["content-disposition"]


def test_etags_are_digests_of_the_content(scene: Scene) -> None:
    """Equal files of two versions have equal, strong tags; a file that is known is not sent."""
    tags = {
        (version, path): scene.live.ask(f"/llama_1b/resolve/{version}/{path}", "HEAD").headers[
            "etag"
        ]
        for version in ("v1.0", "v1.1")
        for path in ("config.json", "model.safetensors")
    }
    weights = scene.directories["v1.1"] / "model.safetensors"
    assert tags["v1.1", "model.safetensors"] == f'"{_sha256(weights)}"'
    assert tags["v1.0", "model.safetensors"] != tags["v1.1", "model.safetensors"]
    assert tags["v1.0", "config.json"] == tags["v1.1", "config.json"]
    known = {"If-None-Match": tags["v1.0", "config.json"]}
    answer = scene.live.ask("/llama_1b/resolve/main/config.json", headers=known)
    assert (answer.status, answer.body) == (304, b"")


# --- what is not there


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/models/no_such", "RepoNotFound"),
        ("/api/models/someone/llama_1b", "RepoNotFound"),
        ("/no_such/resolve/main/config.json", "RepoNotFound"),
        ("/api/models/llama_1b/revision/v9.9", "RevisionNotFound"),
        ("/api/models/llama_1b/tree/refs%2Fpr%2F1", "RevisionNotFound"),
        ("/llama_1b/resolve/v9.9/config.json", "RevisionNotFound"),
        ("/llama_1b/resolve/" + "0" * 40 + "/config.json", "RevisionNotFound"),
        ("/llama_1b/resolve/a@b/config.json", "RevisionNotFound"),
        ("/llama_1b/resolve/main/no.json", "EntryNotFound"),
        ("/api/models/llama_1b/tree/main/no", "EntryNotFound"),
        ("/api/models/llama_1b/tree/main/config.json", "EntryNotFound"),
    ],
)
def test_what_is_not_there_has_the_hubs_code(scene: Scene, path: str, code: str) -> None:
    """The code tells clients which of the three is missing; a missing file also of which commit."""
    answer = scene.live.ask(path)
    assert (answer.status, answer.headers["x-error-code"]) == (404, code)
    assert answer.json["error"]
    if code == "EntryNotFound":
        assert answer.headers["x-repo-commit"] == scene.commit_id("v1.1")


def test_an_empty_line_is_a_repository_without_files(scene: Scene) -> None:
    """A line without versions exists, for clients that ask before they upload."""
    from modelstore.state import Change

    scene.store.change(ModelName("empty"), lambda _: Change("init"))
    answer = scene.live.ask("/api/models/empty")
    assert (answer.status, answer.json["siblings"]) == (200, [])
    assert scene.live.ask("/api/models/empty/tree/main").json == []
    for path, code in (
        ("/empty/resolve/main/config.json", "EntryNotFound"),
        ("/api/models/empty/tree/v1.0", "RevisionNotFound"),
        ("/api/models/empty/commits/main", "RevisionNotFound"),
    ):
        assert scene.live.ask(path).headers["x-error-code"] == code


def test_a_change_of_the_store_is_seen_at_once(tmp_path: Path) -> None:
    """ACTIVE is read anew for every request, and so are new versions."""
    from modelstore.ops.commit import CommitOptions, commit
    from modelstore.store import create
    from tests.models import write_model

    store = create(tmp_path / "tuned_models")
    with serving(store) as live:
        assert live.ask(API).headers["x-error-code"] == "RepoNotFound"
        for seed in (1, 2):
            directory = write_model(tmp_path / f"run{seed}", seed=seed)
            commit(store, directory, MODEL, CommitOptions(f"seed {seed}", activate=True))
            assert live.ask(API).json["sha"] == _active(store)


def _active(store: Store) -> str:
    state = store.state(MODEL)
    entry = state.entry(state.active)
    assert entry is not None
    return commit_id(entry)


def test_a_damaged_blob_is_said_and_never_served(scene: Scene, tmp_path: Path) -> None:
    """A frame that was changed on disk is a 500 that names no place in the program."""
    import shutil

    copy = tmp_path / "tuned_models"
    shutil.copytree(scene.store.root, copy)
    store = Store(copy)
    entry = store.state(MODEL).entry("v1.1")
    assert entry is not None
    file = store.manifest(MODEL, entry).file("model.safetensors")
    assert file is not None
    frame = store.blobs.path(file.spans[1].blob)
    frame.chmod(0o644)
    data = bytearray(frame.read_bytes())
    data[-1] ^= 1
    frame.write_bytes(data)
    with serving(store) as live:
        answer = live.ask("/llama_1b/resolve/v1.1/model.safetensors")
    assert answer.status == 500
    assert b"damaged" in answer.body
    assert b"Traceback" not in answer.body
    assert any("damaged" in line for line in live.reports)
