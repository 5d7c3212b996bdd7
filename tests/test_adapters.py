"""An adapter of PEFT says which weights it changes, by how much, and where its factors lie."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.adapters import CONFIG, WEIGHTS, Adapted, parse_adapter, read_adapter
from modelstore.codecs.factors import Factors
from modelstore.codecs.prediction import best_rounding, predict
from modelstore.errors import IntegrityError, NotFoundError, StoreError, UsageError
from modelstore.numeric import dtype_named
from tests.builders import MemorySource, Values, safetensors_bytes, values
from tests.strategies import damaged

QUERY = "model.layers.3.self_attn.q_proj"
PREFIX = "base_model.model."
PLAIN = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": False, "target_parameters": None}


def factors(module: str, rank: int = 2, inner: int = 5, outer: int = 3) -> dict[str, Values]:
    """Return the two factors of a linear layer as PEFT stores them."""
    return {
        f"{PREFIX}{module}.lora_A.weight": values("F32", rank, inner),
        f"{PREFIX}{module}.lora_B.weight": values("F32", outer, rank, seed=7),
    }


def parse(tensors: dict[str, Values], **settings: Any) -> tuple[Adapted, ...]:
    """Return what an adapter of these tensors says."""
    config = json.dumps({**PLAIN, **settings}).encode()
    return parse_adapter(config, MemorySource(safetensors_bytes(tensors), WEIGHTS))


def test_a_linear_layer():
    """Left is B and right is A; the name loses PEFT's prefix, the scale is alpha over rank."""
    (adapted,) = parse(factors(QUERY))
    assert adapted.weight == f"{QUERY}.weight"
    assert adapted.shape == (3, 5)
    assert adapted.left.tensors[0].name.endswith("lora_B.weight")
    assert adapted.right.tensors[0].name.endswith("lora_A.weight")
    recipe = adapted.recipe
    assert (recipe.rank, recipe.columns, recipe.scale) == (2, 5, 2.0)
    assert not recipe.left_by_rank
    assert not recipe.right_by_column


def test_an_embedding_is_merged_transposed():
    """The factors of an embedding have no `.weight`, and their product is turned."""
    tensors = {
        f"{PREFIX}model.embed_tokens.lora_embedding_A": values("F32", 2, 9),
        f"{PREFIX}model.embed_tokens.lora_embedding_B": values("F32", 4, 2),
    }
    (adapted,) = parse(tensors)
    assert adapted.weight == "model.embed_tokens.weight"
    assert adapted.shape == (9, 4)
    assert adapted.left.tensors[0].name.endswith("embedding_A")
    assert adapted.recipe.left_by_rank
    assert adapted.recipe.right_by_column


def test_weights_stored_the_other_way_round():
    """With fan_in_fan_out the merged matrix is the product turned."""
    (adapted,) = parse(factors("h.0.attn.c_attn"), fan_in_fan_out=True)
    assert adapted.shape == (5, 3)
    assert adapted.recipe.columns == 3


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, float(np.float32(4 / math.sqrt(2)))),
        ({"alpha_pattern": {"q_proj": 7}}, 3.5),
        ({"alpha_pattern": {"k_proj": 7, r"layers\.3\..*": 5, "q_proj": 9}}, 2.5),
        ({"alpha_pattern": {"proj": 7, "other": 5}}, 2.0),
        ({"lora_alpha": 0.1}, float(np.float32(0.05))),
    ],
)
def test_scales(settings: dict[str, Any], scale: float):
    """The scale is PEFT's: rank-stabilised, or of the first pattern that fits whole words."""
    (adapted,) = parse(factors(QUERY), **settings)
    assert adapted.recipe.scale == scale


def test_each_module_has_its_own_rank():
    """A rank pattern shows in the shapes, and the scale follows it."""
    tensors = {**factors("a.q", rank=2), **factors("a.v", rank=4)}
    adapted = parse(tensors, rank_pattern={"v": 4})
    assert [(one.weight, one.recipe.scale) for one in adapted] == [
        ("a.q.weight", 2.0),
        ("a.v.weight", 1.0),
    ]


def test_other_tensors_are_left_alone():
    """Modules saved whole, biases and the names of older versions do not disturb."""
    tensors = {
        **{name.replace(".weight", ".default.weight"): one for name, one in factors("a.q").items()},
        f"{PREFIX}lm_head.weight": values("F32", 3, 3),
        f"{PREFIX}a.q.lora_B.bias": values("F32", 3),
    }
    (adapted,) = parse(tensors, modules_to_save=["lm_head"])
    assert adapted.weight == "a.q.weight"


def test_names_in_a_model():
    """A model may have one more or one fewer outer prefix, if that leaves no doubt."""
    (adapted,) = parse(factors(QUERY))
    exact, other = f"{QUERY}.weight", "lm_head.weight"
    for name in (exact, exact.removeprefix("model."), f"language_{exact}", f"outer.{exact}"):
        found = adapted.name_among([other, name])
        assert found == (name if not name.startswith("language_") else None)
    assert adapted.name_among([f"a.{exact}", f"b.{exact}"]) is None
    assert adapted.name_among([f"a.{exact}", exact]) == exact
    assert adapted.name_among([]) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"peft_type": "IA3"},
        {"peft_type": None},
        {"use_dora": True},
        {"target_parameters": ["experts.gate_up_proj"]},
        {"layer_replication": [[0, 4], [2, 5]]},
    ],
)
def test_other_kinds_are_refused(settings: dict[str, Any]):
    """What is merged in another way is refused, and the message says what it is."""
    with pytest.raises(UsageError, match=str(next(iter(settings.values()))) if "peft_type" in
                       settings else next(iter(settings))):  # fmt: skip
        parse(factors(QUERY), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_alpha": None},
        {"lora_alpha": True},
        {"lora_alpha": "4"},
        {"lora_alpha": 1e60},
        {"alpha_pattern": {"(": 1}},
        {"alpha_pattern": [1]},
    ],
)
def test_damaged_settings_are_refused(settings: dict[str, Any]):
    """A scale that is no number is an error of the file."""
    with pytest.raises(IntegrityError):
        parse(factors(QUERY), **settings)


def test_factors_that_do_not_fit_are_refused():
    """Half a pair, two ranks and what is no matrix of floats are errors."""
    names = [*factors(QUERY)]
    for a, b in (((2, 5), (3, 3)), ((0, 5), (3, 0)), ((2, 0), (3, 2))):
        with pytest.raises(IntegrityError):
            parse({names[0]: values("F32", *a), names[1]: values("F32", *b)})
    with pytest.raises(IntegrityError):
        parse({names[0]: values("F32", 2, 5)})
    for dtype, shape in (("F32", (2, 5, 1)), ("F64", (2, 5)), ("U8", (2, 5))):
        with pytest.raises(UsageError):
            parse({**factors(QUERY), names[0]: values(dtype, *shape)})


@given(data=st.data())
def test_damage_is_an_error_or_harmless(data: st.DataObject):
    """A damaged adapter is refused or gives factors that lie within its file."""
    weights = safetensors_bytes({**factors(QUERY), **factors("a.b", rank=1)})
    config = json.dumps({**PLAIN, "alpha_pattern": {"b": 3}}).encode()
    if data.draw(st.booleans()):
        weights = data.draw(damaged(weights))
    else:
        config = data.draw(damaged(config))
    try:
        found = parse_adapter(config, MemorySource(weights, WEIGHTS))
    except StoreError:
        return
    for one in found:
        assert one.left.stop <= len(weights)
        assert one.right.stop <= len(weights)
        assert math.isfinite(one.recipe.scale)


def test_a_directory(tmp_path: Path):
    """The two files of an adapter are read; a missing or pickled one is named."""
    with pytest.raises(NotFoundError, match=CONFIG):
        read_adapter(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(PLAIN))
    with pytest.raises(NotFoundError, match=WEIGHTS):
        read_adapter(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(NotFoundError, match="unpickle"):
        read_adapter(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(safetensors_bytes(factors(QUERY)))
    assert [one.weight for one in read_adapter(tmp_path)] == [f"{QUERY}.weight"]


def test_what_peft_saves_predicts_what_peft_merges(tmp_path: Path):
    """Linear layers and embeddings, with their own ranks and alphas, in a bf16 model."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    bf16 = dtype_named("BF16")
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    model.add_module("table", torch.nn.Embedding(90, 64))
    model.add_module("query", torch.nn.Linear(64, 48, bias=False))
    model.add_module("value", torch.nn.Linear(48, 32, bias=False))
    model = model.to(torch.bfloat16)
    base = {name: bits_of(one) for name, one in model.state_dict().items()}
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        rank_pattern={"value": 7},
        alpha_pattern={"value": 5},
        use_rslora=True,
        init_lora_weights=False,
        target_modules=["table", "query", "value"],
    )
    adapted_model = peft.get_peft_model(model, config)
    adapted_model.save_pretrained(tmp_path)
    merged = {n: bits_of(one) for n, one in adapted_model.merge_and_unload().state_dict().items()}
    data = (tmp_path / WEIGHTS).read_bytes()
    found = read_adapter(tmp_path)
    assert {one.weight for one in found} == set(merged)
    for one in found:
        blobs = (data[span.start : span.stop] for span in (one.left, one.right))
        whole = Factors.from_blobs(one.recipe, *blobs)
        before, after = base[one.weight], merged[one.weight]
        assert (before != after).mean() > 0.5
        best = best_rounding(after, before, bf16, whole)
        assert (predict(before, bf16, 0, best) != after).sum() <= 1


def bits_of(tensor: Any) -> np.ndarray:
    """Return the bits of a bf16 tensor."""
    single = tensor.detach().float().numpy().reshape(-1).view("<u4")
    return (single >> 16).astype("<u2")
