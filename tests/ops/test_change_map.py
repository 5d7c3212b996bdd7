"""A map of change has every tensor once, where a reader of its architecture looks for it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.charts.changes import ADDED, CHANGED, REMOVED, REPLACED, UNCHANGED
from modelstore.names import ModelName
from modelstore.ops.change_map import change_chart, change_map
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.diff import Difference, diff
from modelstore.ops.layers import arrange
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from tests.builders import Values, safetensors_bytes
from tests.models import weights, write_model

LLAMA = ModelName("llama_1b")


def differing(tmp_path: Path, before: dict[str, Values], after: dict[str, Values]) -> Difference:
    """Return how two versions with these tensors differ."""
    store: Store = create(tmp_path / "tuned_models")
    for name, tensors in (("a", before), ("b", after)):
        files = {"model.safetensors": safetensors_bytes(tensors)}
        commit(store, write_model(tmp_path / name, files=files), LLAMA, CommitOptions())
    return diff(store, resolve(store, "llama_1b@v1.0"), resolve(store, "llama_1b@v1.1"))


def test_each_cell_tells_what_became_of_its_tensors(tmp_path: Path) -> None:
    """Changed by how much, equal, added, removed, of another shape: with the figures of the diff."""
    before = weights(1)
    after = weights(1, step=1e-3)
    after["model.layers.0.norm.weight"] = before["model.layers.0.norm.weight"]
    wide = after["model.embed_tokens.weight"]
    after["model.embed_tokens.weight"] = Values("F32", (192, 8), wide.data)
    before["model.layers.0.old.weight"] = Values("F32", (2,), b"\1" * 8)
    after["model.layers.1.mlp.weight"] = Values("F32", (2,), b"\2" * 8)
    found = differing(tmp_path, before, after)
    drawn = change_map(found)
    by_name = {one.name: cell for cell in drawn.cells for one in cell.tensors}
    assert {name: cell.state for name, cell in by_name.items()} == {
        "model.embed_tokens.weight": REPLACED,
        "model.layers.0.mlp.weight": CHANGED,
        "model.layers.0.norm.weight": UNCHANGED,
        "model.layers.0.old.weight": REMOVED,
        "model.layers.1.mlp.weight": ADDED,
    }
    (distance,) = (t.distance for t in found.tensors if t.name == "model.layers.0.mlp.weight")
    assert distance is not None
    assert by_name["model.layers.0.mlp.weight"].relative == distance.relative_l2
    assert drawn.summary.startswith("4 of 5 tensors differ; 512 of ")
    assert b"model.layers.1.mlp.weight" in change_chart(found).document()


def test_tensors_of_one_cell_are_put_together(tmp_path: Path) -> None:
    """Experts of a layer share a cell; its change is the root mean square, by numbers of values."""
    names = [f"model.layers.{n // 8}.experts.{n % 8}.up.weight" for n in range(16)]
    random = weights(1)["model.embed_tokens.weight"].data

    def tensors(moved: int) -> dict[str, Values]:
        return {
            name: Values("F32", (16,), random[:64] if n >= moved else random[64:128])
            for n, name in enumerate(names)
        }

    found = differing(tmp_path, tensors(0), tensors(2))
    cell, other = change_map(found).cells
    assert (cell.state, len(cell.tensors), other.state) == (CHANGED, 8, UNCHANGED)
    changes = [tensor.distance.relative_l2 for tensor in found.tensors if tensor.distance]
    assert len(changes) == 2
    expected = math.sqrt(sum(change * change for change in changes if change) / 8)
    assert cell.relative == pytest.approx(expected)


@pytest.mark.parametrize(
    ("names", "rows", "columns"),
    [
        (
            ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
             "model.layers.0.mlp.up_proj.weight", "model.layers.10.self_attn.q_proj.weight",
             "model.norm.weight", "lm_head.weight"],
            ["embed_tokens", "0", "10", "norm", "lm_head"],
            ["q_proj", "up_proj"],
        ),
        (
            ["wte.weight", "h.0.attn.c_attn.weight", "h.1.attn.c_attn.weight", "ln_f.weight"],
            ["wte", "0", "1", "ln_f"],
            ["c_attn"],
        ),
        (
            ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_up.weight", "output.weight"],
            ["token_embd", "0", "output"],
            ["attn_q", "ffn_up"],
        ),
    ],
)  # fmt: skip
def test_names_of_known_architectures(
    names: list[str], rows: list[str], columns: list[str]
) -> None:
    """Layers stand in their order, what comes before them above and what comes after below."""
    found = arrange(names)
    assert [head.label for head in found.rows] == rows
    assert [head.label for head in found.columns] == columns


parts = st.text("abz019_.-", min_size=1, max_size=12) | st.sampled_from(
    ["layers.0", "layers.17", "h.3", "weight", "bias", "experts.5", "attn.q", "0", "1.2"]
)


@given(st.lists(st.lists(parts, min_size=1, max_size=5).map(".".join), max_size=60, unique=True))
def test_any_names_find_a_place(names: list[str]) -> None:
    """Every tensor has a row, and a column or none; rows and columns are bounded and used."""
    found = arrange(names)
    assert found.places.keys() == set(names)
    assert {row for row, _ in found.places.values()} == set(range(len(found.rows)))
    used = {column for _, column in found.places.values() if column is not None}
    assert used == set(range(len(found.columns)))
    assert len(found.columns) <= 49
    assert found == arrange(list(reversed(names)))
