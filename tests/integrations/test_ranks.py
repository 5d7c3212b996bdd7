"""Several processes save shards into one store, and other numbers of them load it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import modelstore
from modelstore.ops.init import init

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]


def _run(count: int, what: str, store: Path) -> None:
    """Start ``count`` processes that save or load, and see that all of them end well."""
    done = _ended(count, what, store)
    assert done.returncode == 0, done.stderr[-4000:]


def _ended(count: int, what: str, store: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words += ["--nproc_per_node", str(count)]
    return subprocess.run(
        [*words, ROOT / "tests/integrations/ranks.py", what, store],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        timeout=240,
    )


@pytest.mark.slow
def test_shards_are_saved_and_loaded_by_other_numbers_of_ranks(tmp_path: Path) -> None:
    """Two ranks of FSDP save, in the foreground and in the background; one, two and three load."""
    init(tmp_path / "tuned_models")
    _run(2, "save", tmp_path / "tuned_models")
    store = modelstore.open(tmp_path / "tuned_models")
    assert [row["parents"] for row in store.log("sharded")] == [["v1.0"], []]
    manifest = store.store.manifest("sharded", store.resolve("sharded@v1.1").entry)
    names = {tensor.name for _, _, tensor in manifest.tensors()}
    assert {"columns[0:5,0:4]", "columns[0:5,4:8]"} <= names
    assert store.verify("sharded@v1.1").problems == ()
    for count in (1, 3, 2):
        _run(count, "load", tmp_path / "tuned_models")


@pytest.mark.slow
def test_processes_of_torch_may_save_in_the_background(tmp_path: Path) -> None:
    """A writer is sent to another process of each rank, and these make the version."""
    init(tmp_path / "tuned_models")
    _run(2, "apart", tmp_path / "tuned_models")
    store = modelstore.open(tmp_path / "tuned_models")
    assert [row["message"] for row in store.log("sharded")] == ["from another process"]
    assert store.verify("sharded@v1.0").problems == ()


@pytest.mark.slow
def test_a_rank_that_is_killed_leaves_no_version(tmp_path: Path) -> None:
    """What it wrote is nobody's, the store is sound, and the next save makes the first version."""
    init(tmp_path / "tuned_models")
    assert _ended(2, "die", tmp_path / "tuned_models").returncode != 0
    store = modelstore.open(tmp_path / "tuned_models")
    assert store.log("llama_1b") == []
    assert "sharded" not in store.models()
    assert store.fsck().problems == ()
    store.gc(purge_now=True)
    assert list(store.store.blobs.iter_digests()) == []
    _run(2, "save", tmp_path / "tuned_models")
    assert store.verify("sharded@v1.1").problems == ()
