"""What a user of huggingface_hub changes on a server; run by whichever release of it is to be tried.

    HF_ENDPOINT=URL HF_TOKEN=TOKEN HF_HOME=DIR python hub_uploader.py FIRST SECOND

The arguments are directories of two states of a model; the second has no notes.txt. Prints its release.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.utils import HfHubHTTPError

REPO = "mstore/uploaded"


def refused(status: int, words: str, function: Any, *args: Any, **kwargs: Any) -> None:
    """Check that a call is refused with a status, and says why."""
    said: HfHubHTTPError | None = None
    try:
        function(*args, **kwargs)
    except HfHubHTTPError as error:
        said = error
    assert said is not None, f"{function.__name__} was not refused"
    assert said.response.status_code == status, said
    assert words in str(said), said


def begins(api: HfApi) -> None:
    """Check a repository that has no commit yet."""
    assert api.create_repo(REPO).repo_id == REPO
    assert api.create_repo("uploaded", exist_ok=True).repo_id == REPO
    refused(409, "exists", api.create_repo, REPO)
    refused(403, "every model here is mstore/NAME", api.create_repo, "alice/model")
    assert api.repo_exists(REPO)
    assert api.list_repo_files(REPO) == []


def uploads(api: HfApi, first: Path, second: Path) -> None:
    """Check folders, a file and deletions."""
    made = api.upload_folder(repo_id=REPO, folder_path=first, commit_message="one")
    same(api, first, made.oid)
    moved = api.upload_folder(
        repo_id=REPO,
        folder_path=second,
        commit_message="two",
        commit_description="more",
        parent_commit=made.oid,
        delete_patterns="*.txt",
    )
    same(api, second, moved.oid)
    assert moved.commit_url.endswith(f"/{REPO}/commit/{moved.oid}")
    again = api.upload_folder(repo_id=REPO, folder_path=second, commit_message="two")
    assert again.oid == moved.oid
    add = CommitOperationAdd("late.txt", b"late")
    refused(
        *(412, "has changed since", api.create_commit, REPO, [add]),
        commit_message="late",
        parent_commit=made.oid,
    )
    with (first / "model.safetensors").open("rb") as weights:
        operations = [
            CommitOperationAdd("deep/weights.safetensors", io.BytesIO(weights.read())),
            CommitOperationAdd("some.txt", b"some"),
            CommitOperationDelete("config.json"),
            CommitOperationDelete("extra/"),
        ]
        api.create_commit(REPO, operations, commit_message="three")
    assert api.list_repo_files(REPO) == [
        *("deep/weights.safetensors", "model.safetensors", "some.txt", "tokenizer.json"),
    ]
    titles = [commit.title for commit in api.list_repo_commits(REPO)]
    assert titles == ["v1.2: three", "v1.1: two", "v1.0: one"], titles


def same(api: HfApi, directory: Path, commit: str) -> None:
    """Check that a commit holds a directory."""
    paths = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    assert set(api.list_repo_files(REPO)) == paths
    for path in paths:
        for revision in (None, commit):
            found = hf_hub_download(REPO, path, revision=revision)
            assert Path(found).read_bytes() == (directory / path).read_bytes(), path


def names(api: HfApi) -> None:
    """Check tags and branches."""
    api.create_tag(REPO, tag="prod", revision="v1.0", tag_message="good")
    refused(409, "has 'prod' already", api.create_tag, REPO, tag="prod")
    refused(409, "has 'v1.1' already", api.create_tag, REPO, tag="v1.1")
    api.create_branch(REPO, branch="dev", revision="v1.0")
    api.create_branch(REPO, branch="dev", exist_ok=True)
    words = {"path_or_fileobj": b"x", "path_in_repo": "dev.txt", "repo_id": REPO}
    api.upload_file(**words, revision="dev")
    refused(400, "a version never changes", api.upload_file, **words, revision="v1.0")
    assert api.file_exists(REPO, "dev.txt", revision="dev")
    assert not api.file_exists(REPO, "dev.txt")
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(REPO).tags}
    assert tags["dev"] == tags["v1.3"] != tags["prod"] == tags["v1.0"]
    api.delete_tag(REPO, tag="prod")
    api.delete_branch(REPO, branch="dev")
    refused(403, "is a version", api.delete_tag, REPO, tag="v1.0")
    refused(403, "mstore rm", api.delete_repo, REPO)


def main() -> None:
    """Do all of it, and print the release."""
    first, second = map(Path, sys.argv[1:])
    api = HfApi()
    begins(api)
    uploads(api, first, second)
    names(api)
    print(huggingface_hub.__version__)


if __name__ == "__main__":
    main()
