"""What comes out is byte for byte what went in, for generated files of every format."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import resolve
from modelstore.store import create
from tests import strategies
from tests.models import files_of

FILES = {
    "safetensors": strategies.safetensors_files.map(lambda drawn: drawn[0]),
    "torch": strategies.torch_files.map(lambda drawn: drawn[0]),
    "gguf": strategies.gguf_files.map(lambda drawn: drawn[0]),
    "opaque": st.binary(max_size=300),
}


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, bytes]]:
    """One to four versions of a directory of generated files, some of them damaged."""
    versions = []
    for _ in range(draw(st.integers(1, 4))):
        names = draw(st.lists(st.sampled_from(sorted(FILES)), min_size=1, max_size=3, unique=True))
        files = {}
        for name in names:
            data = draw(FILES[name])
            files[f"sub/{name}.data"] = draw(st.just(data) | strategies.damaged(data))
        versions.append(files)
    return versions


@settings(max_examples=25)
@given(versions=histories(), order=st.randoms(use_true_random=False))
def test_every_version_comes_back(versions: list[dict[str, bytes]], order: object) -> None:
    """Every file of every version is equal, whatever order the versions are checked out in."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        store = create(root / "store")
        for number, files in enumerate(versions):
            source = root / f"in{number}"
            for name, data in files.items():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes(data)
            commit(store, source, ModelName("m"), CommitOptions(allow_empty=True))

        numbers = list(range(len(versions)))
        order.shuffle(numbers)  # type: ignore[attr-defined]
        for number in numbers:
            out = root / f"out{number}"
            checkout(store, resolve(store, f"v1.{number}"), output=out)
            assert files_of(out) == versions[number]


@pytest.mark.parametrize("size", [0, 1, 4 << 20, (4 << 20) + 1, 9_000_001])
def test_sizes_at_the_edges_of_chunks_come_back(tmp_path: Path, size: int) -> None:
    """Opaque files around the limits of whole blobs and of chunks come back."""
    source = tmp_path / "in"
    source.mkdir()
    block = bytes(range(256)) * 4096
    (source / "file").write_bytes((block * (size // len(block) + 1))[:size])
    store = create(tmp_path / "store")
    commit(store, source, ModelName("m"), CommitOptions())

    out = checkout(store, resolve(store, "v1.0"), output=tmp_path / "out").path

    assert files_of(out) == files_of(source)
