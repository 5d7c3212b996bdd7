"""The benchmarks themselves: what they measure is what they say; how fast it is, is no test."""

from __future__ import annotations

import importlib
import struct
import subprocess
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from modelstore.ops.resolve import resolve
from modelstore.store import Store

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    """Import a module of the benchmarks, which are programs and no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def write_safetensors(version: Path, values: bytes) -> None:
    """Write one bf16 tensor of these bytes."""
    version.mkdir()
    header = b'{"w":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]}}'
    header %= (len(values) // 2, len(values))
    (version / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + values)


def test_every_benchmark_can_be_loaded():
    """The program says what it can do, for which it imports all of its parts."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "run.py", "--help"], check=True, capture_output=True
    )
    assert b"registry" in done.stdout


def test_the_registry_of_many_versions_is_one_that_mstore_wrote(tmp_path, benchmark):
    """It has every version, one the parent of the next, and a reader finds nothing odd in it."""
    many = benchmark("many_versions")
    many.write_model(tmp_path / "content", 0)
    store = many.make_store(tmp_path / "store", tmp_path / "content", 20)
    state = store.state(many.MODEL)
    assert (len(state.versions()), state.notice) == (20, "")
    assert str(resolve(Store(store.root), "v1.19~19")) == "line@v1.0"
    assert store.manifest(many.MODEL, state.entries()[-1]).message == state.entries()[-1].text(
        "message"
    )


def test_the_peers_count_what_they_claim_to_share(tmp_path, benchmark):
    """A file that is there already costs nothing, and a small change little with XOR and planes."""
    peers = benchmark("peers")
    random = Random(7)
    values = struct.pack("<4096H", *(0x3C00 + random.randrange(512) for _ in range(4096)))
    write_safetensors(tmp_path / "v1.0", values)
    write_safetensors(tmp_path / "v1.1", values[:-2] + b"\x01\x3c")
    whole, planes = peers.Files(pack=False), peers.XorPlanes()
    size = whole.add(tmp_path / "v1.0")
    assert size > 8192
    assert whole.add(tmp_path / "v1.0") == 0
    assert whole.add(tmp_path / "v1.1") == size
    assert planes.add(tmp_path / "v1.0") > 2000
    assert planes.add(tmp_path / "v1.1") < 100
