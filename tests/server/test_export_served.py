"""Exports and imports beside a real client of the server: both know everything by the same names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelstore.ops.hub_cache import CacheEntry
from modelstore.store import create
from tests.cli.program import environment
from tests.exports import exported, imported
from tests.models import files_of
from tests.server.conftest import MODEL, Scene
from tests.server.live import serving

REPO = f"mstore/{MODEL}"


def _download(url: str, cache: Path, revision: str) -> Path:
    script = (
        "import sys\n"
        "from huggingface_hub import snapshot_download\n"
        f"print(snapshot_download({REPO!r}, revision=sys.argv[1]))\n"
    )
    more = {"HF_ENDPOINT": url, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script, revision],
        capture_output=True,
        text=True,
        check=False,
        env=environment({**more, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}),
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_a_client_finds_what_was_exported_and_import_finds_what_it_downloaded(
    scene: Scene, tmp_path: Path
) -> None:
    """Of an exported version nothing is fetched again; a downloaded one is imported, verified."""
    pytest.importorskip("huggingface_hub")
    cache = tmp_path / "cache"
    done = exported(scene.store, f"{MODEL}@v1.1", "hf-cache", cache)
    entry = CacheEntry.of(cache, REPO)
    before = {path: path.stat().st_ino for path in entry.blobs.iterdir()}
    with serving(scene.store, allow_pickle=True) as live:
        snapshot = _download(live.url, cache, "v1.1")
        assert {path: path.stat().st_ino for path in entry.blobs.iterdir()} == before
        assert (snapshot.name, len(before)) == (scene.commit_id("v1.1"), len(done.written))
        assert files_of(snapshot) == files_of(scene.directories["v1.1"])
        _download(live.url, cache, "v1.0")
    other = create(tmp_path / "other")
    found = imported(other, f"hf:{REPO}", place=cache, everything=True)
    assert [one.ref for one in found] == [f"{MODEL}@v1.0", f"{MODEL}@v1.1"]
    assert all(set(one.source.expected) == set(files_of(snapshot)) for one in found)
    for ref, directory in scene.directories.items():
        exported(other, f"{MODEL}@{ref}", "dir", tmp_path / ref)
        assert files_of(tmp_path / ref) == files_of(directory)
