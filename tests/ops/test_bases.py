"""What a new tensor is built on: namesakes, what was renamed, and other models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from modelstore.blobs import BytesSource
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops.bases import Bases
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import Context, resolve
from modelstore.store import Store
from tests.builders import Values, safetensors_bytes

LINE = ModelName("line")
Weights = dict[str, np.ndarray]


def model(layers: int = 3, seed: int = 1) -> Weights:
    """Return the weights of a model, every layer another."""
    random = np.random.default_rng(seed)
    weights = {"model.embed.weight": random.normal(0, 0.02, (150, 64))}
    for layer in range(layers):
        weights[f"model.layers.{layer}.up.weight"] = random.normal(0, 0.02, (160, 64))
        weights[f"model.layers.{layer}.gate.weight"] = random.normal(0, 0.02, (160, 64))
        weights[f"model.layers.{layer}.norm.weight"] = random.normal(1, 0.1, 64)
    return weights


def tuned(weights: Weights, seed: int = 9) -> Weights:
    """Return weights a training step further."""
    random = np.random.default_rng(seed)
    return {k: v + 1e-5 * random.normal(0, 1, v.shape) for k, v in weights.items()}


def values(weights: Weights, dtype: str) -> Mapping[str, Values]:
    """Return weights as a file holds them."""
    result = {}
    for name, array in weights.items():
        data = array.astype("<f4")
        raw = data.tobytes() if dtype == "F32" else (data.view("<u4") >> 16).astype("<u2").tobytes()
        result[name] = Values(dtype, array.shape, raw)
    return result


class Line:
    """A store whose versions are told which of their tensors are built on which."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store = store
        self._directory = directory
        self._count = 0

    def add(
        self,
        weights: Weights,
        *,
        line: str = LINE,
        dtype: str = "BF16",
        parents: list[str] | None = None,
    ) -> dict[str, str]:
        """Commit weights; return which tensor each new one is built on, "" for none."""
        names = self._names()
        self._count += 1
        path = self._directory / f"run{self._count}"
        path.mkdir()
        (path / "model.safetensors").write_bytes(safetensors_bytes(values(weights, dtype)))
        options = CommitOptions(parents=parents, allow_empty=True)
        done = commit(self.store, path, ModelName(line), options)
        resolved = resolve(self.store, f"{line}@{done.version}", Context())
        found = {}
        for _, span, tensor in self.store.manifest(ModelName(line), resolved.entry).tensors():
            base = self.store.blobs.header(span.blob).base
            found[tensor.name] = names[base] if base else ""
        return found

    def _names(self) -> dict[Digest, str]:
        """Return the names of all tensors in the store."""
        names = {}
        for line in self.store.models():
            for entry in self.store.state(line).entries():
                for _, span, tensor in self.store.manifest(line, entry).tensors():
                    names[span.blob] = tensor.name
        return names


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Line:
    """A line without versions."""
    return Line(store, tmp_path)


def large(built: Mapping[str, str]) -> dict[str, str]:
    """Return what is said of matrices; norms are so small that nobody cares."""
    return {name: base for name, base in built.items() if "norm" not in name}


def test_namesakes_come_first(line: Line):
    """A tensor is built on the parent's of the same name."""
    weights = model()
    line.add(weights)
    built = large(line.add(tuned(weights)))
    assert built == {name: name for name in built}


def test_other_kinds_of_numbers_are_namesakes_too(line: Line):
    """An fp32 version of a bf16 model is built on it, and the next bf16 one on that."""
    weights = model()
    line.add(weights)
    for dtype, seed in (("F32", 3), ("BF16", 4)):
        weights = tuned(weights, seed)
        built = large(line.add(weights, dtype=dtype))
        assert built == {name: name for name in built}


@pytest.mark.parametrize("rows", [140, 160])
def test_a_vocabulary_may_grow_and_shrink(line: Line, rows: int):
    """Rows that are new, or gone, do not cost those that are left."""
    weights = model()
    line.add(weights)
    changed = tuned(weights)
    new = np.random.default_rng(5).normal(0, 0.02, (160, 64))
    new[:150] = changed["model.embed.weight"]
    changed["model.embed.weight"] = new[:rows]
    assert line.add(changed)["model.embed.weight"] == "model.embed.weight"


def test_a_prefix_may_go(line: Line):
    """Tensors whose names lost their first part are found, the right layer each."""
    weights = model()
    line.add(weights)
    renamed = {name.removeprefix("model."): v for name, v in tuned(weights).items()}
    built = large(line.add(renamed))
    assert built == {name: f"model.{name}" for name in built}


def test_layers_may_be_shifted(line: Line):
    """Where a layer was put in between, the following ones are found one further."""
    weights = model(layers=6)
    line.add(weights)
    shifted, other = {}, model(seed=4)
    for name, array in tuned(weights).items():
        parts = name.split(".")
        if parts[1] == "layers" and int(parts[2]) >= 2:
            parts[2] = str(int(parts[2]) + 1)
        shifted[".".join(parts)] = array
    shifted.update({n: v for n, v in other.items() if ".layers.2." in n})
    built = large(line.add(shifted))
    assert built["model.layers.2.up.weight"] == ""
    assert built["model.layers.1.gate.weight"] == "model.layers.1.gate.weight"
    assert built["model.layers.3.gate.weight"] == "model.layers.2.gate.weight"
    assert built["model.layers.6.up.weight"] == "model.layers.5.up.weight"


def test_all_names_may_change(line: Line):
    """A converted model is found by shapes, numbers of layers and values."""
    weights = model()
    line.add(weights)
    names = {"up": "ffn_up", "gate": "ffn_gate"}
    renamed = {}
    for name, array in tuned(weights).items():
        parts = name.split(".")
        if parts[1] == "layers" and parts[3] in names:
            renamed[f"blk.{parts[2]}.{names[parts[3]]}.weight"] = array
    built = line.add(renamed)
    assert built["blk.1.ffn_gate.weight"] == "model.layers.1.gate.weight"
    assert built["blk.2.ffn_up.weight"] == "model.layers.2.up.weight"


def test_the_line_s_newest_stands_in_for_a_parent(line: Line):
    """A version without a parent is built on what the line has."""
    weights = model()
    line.add(weights)
    built = large(line.add(tuned(weights), parents=[]))
    assert built == {name: name for name in built}


def test_another_model_may_be_the_base(line: Line):
    """The first version of a second line is built on the first line it came from."""
    weights = model()
    line.add(weights)
    built = large(line.add(tuned(weights), line="second"))
    assert built == {name: name for name in built}


def test_an_unrelated_model_is_not(line: Line):
    """Weights that only look alike are no base, and are not searched for long."""
    line.add(model(layers=12))
    built = large(line.add(model(layers=12, seed=2), line="second"))
    assert set(built.values()) == {""}


def test_the_root_may_be_nearer_than_the_parent(line: Line):
    """Of a parent that went far and the version the line began with the nearer one is taken."""
    weights = model()
    line.add(weights)
    far = {k: v + 0.01 * np.random.default_rng(8).normal(0, 1, v.shape) for k, v in weights.items()}
    line.add(far)
    line.add(tuned(weights))
    store = line.store
    first, last = (
        {tensor.name: span.blob for _, span, tensor in store.manifest(LINE, entry).tensors()}
        for entry in (store.state(LINE).entries()[0], store.state(LINE).entries()[2])
    )
    for name in large(last):
        assert store.blobs.header(last[name]).base == first[name]


def test_nothing_is_offered_to_what_others_are_built_on(line: Line):
    """A blob that must stay without a base gets no candidates."""
    line.add(model())
    line.add(model(seed=3))
    found = resolve(line.store, "line@v1.1", Context())
    spans = [span for _, span, _ in line.store.manifest(LINE, found.entry).tensors()]
    source = BytesSource(bytes(spans[0].size))
    free = Bases(line.store, LINE, [])
    bound = Bases(line.store, LINE, [], alone=frozenset(span.blob for span in spans))
    assert free.of(spans[0])
    assert spans[0].blob not in free.of(spans[0])
    assert bound.of(spans[0]) == []
    assert list(bound.others(spans[0], source)) == []


def test_lost_candidates_are_passed_over(line: Line):
    """Where the frames of all candidates are gone the tensors are stored on their own."""
    weights = model()
    line.add(weights)
    manifests = {entry.id for entry in line.store.state(LINE).entries()}
    for digest in list(line.store.blobs.iter_digests()):
        if digest not in manifests:
            line.store.blobs.path(digest).unlink()
    renamed = {f"other.{name}": array for name, array in tuned(weights).items()}
    assert set(line.add(renamed, line="second").values()) == {""}
