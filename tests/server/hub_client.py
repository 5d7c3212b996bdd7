"""What a user of huggingface_hub does with a server; run by whichever release of it is to be tried.

    HF_ENDPOINT=URL HF_HOME=DIR python hub_client.py V1_0 V1_1

The arguments are the directories that the two versions were made of. Prints its release.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import huggingface_hub
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.utils import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

REPO = "mstore/llama_1b"
SKIPPED = {"pytorch_model.bin"}


def same(found: str | Path, made_of: Path) -> None:
    """Check that a snapshot is the directory that the version was made of."""
    paths = {str(p.relative_to(made_of)) for p in made_of.rglob("*") if p.is_file()} - SKIPPED
    got = {str(p.relative_to(found)) for p in Path(found).rglob("*") if p.is_file()}
    assert got == paths, got ^ paths
    for path in paths:
        assert (Path(found) / path).read_bytes() == (made_of / path).read_bytes(), path


def asks(api: HfApi) -> None:
    """Check what is asked about a repository."""
    info = api.model_info(REPO)
    assert info.sha is not None
    assert (info.pipeline_tag, len(info.sha)) == ("text-generation", 40)
    assert api.repo_exists(REPO)
    assert not api.repo_exists("mstore/none")
    assert api.revision_exists(REPO, "v1.0")
    assert not api.revision_exists(REPO, "v9.9")
    assert api.file_exists(REPO, "config.json", revision=info.sha)
    assert {tag.name for tag in api.list_repo_refs(REPO).tags} == {"v1.0", "v1.1", "prod"}
    assert api.list_repo_commits(REPO)[0].title == "v1.1: message v1.1"
    assert api.get_paths_info(REPO, ["config.json"], expand=True)[0].path == "config.json"
    assert api.get_safetensors_metadata(REPO).parameter_count == {"F32": 2064}


def misses() -> None:
    """Check that what is missing raises the error that says what is."""
    for error, repo, path, revision in (
        (RepositoryNotFoundError, "mstore/none", "config.json", None),
        (RevisionNotFoundError, REPO, "config.json", "v9.9"),
        (EntryNotFoundError, REPO, "none.json", None),
    ):
        try:
            hf_hub_download(repo, path, revision=revision)
        except error:
            continue
        raise AssertionError(f"{error.__name__} was not raised")
    try:
        hf_hub_download(REPO, "pytorch_model.bin")
    except HfHubHTTPError as error:
        said = str(error)
    assert "--allow-pickle" in said, said


def reads(directory: Path) -> None:
    """Check a file system that reads parts of files."""
    system = HfFileSystem()
    names = system.ls(f"{REPO}@v1.0", detail=False)
    assert f"{REPO}@v1.0/model.safetensors" in names
    data = (directory / "model.safetensors").read_bytes()
    with system.open(f"{REPO}@v1.0/model.safetensors", "rb", block_size=1000) as file:
        file.seek(2345)
        assert file.read(2000) == data[2345:4345]


def main() -> None:
    """Do all of it, and print the release."""
    first, second = map(Path, sys.argv[1:])
    api = HfApi()
    asks(api)
    misses()
    reads(first)
    same(snapshot_download(REPO, revision="v1.0", ignore_patterns=["*.bin"]), first)
    same(snapshot_download(REPO, revision="v1.1", ignore_patterns=["*.bin"]), second)
    if hasattr(api, "verify_repo_checksums"):
        verified = api.verify_repo_checksums(REPO, revision="v1.0")
        assert not verified.mismatches
        assert set(verified.missing_paths) == SKIPPED
    assert os.listdir(os.environ["HF_HOME"])
    print(huggingface_hub.__version__)


if __name__ == "__main__":
    main()
