"""What a run leaves: files like the base's, and adapters that others can load."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelstore.formats.split import split
from modelstore.ops.scan import CommittedFile
from modelstore.training.base import open_base
from modelstore.training.quiet import quiet
from modelstore.training.trained import PICKLED, save, trained_model, weight_files
from tests.training.tiny import make_model

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
safetensors = pytest.importorskip("safetensors.torch")
load_file, save_file = safetensors.load_file, safetensors.save_file


def _loaded(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def _saved(base: Path, output: Path, weights_format: str = "safetensors") -> Path:
    """Save what is as if it had been trained from ``base``: every value is one more, in float32."""
    model = _loaded(base)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1
    output.mkdir()
    save(model, open_base(base), output, weights_format)
    return output


def _same_file(ours: Path, theirs: Path) -> bool:
    return ours.read_bytes() == theirs.read_bytes()


def _tensors(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in weight_files(directory):
        found |= load_file(path)
    return found


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_weights_have_the_dtype_of_the_base(tmp_path: Path, dtype: str) -> None:
    """A model that was trained in float32 is saved as the base is, to the last name."""
    base = make_model(tmp_path / "base", dtype)
    output = _saved(base, tmp_path / "out")
    before, after = _tensors(base), _tensors(output)
    assert {n: (t.dtype, t.shape) for n, t in before.items()} == {
        n: (t.dtype, t.shape) for n, t in after.items()
    }
    for name, tensor in before.items():
        assert torch.equal(after[name], (tensor.float() + 1).to(tensor.dtype))
    assert sorted(p.name for p in output.iterdir()) == sorted(p.name for p in base.iterdir())


def test_shards_are_those_of_the_base(tmp_path: Path) -> None:
    """A base of several files is followed by as many, with the same tensors and the same index."""
    base = make_model(tmp_path / "base", shard="30KB")
    output = _saved(base, tmp_path / "out")
    shards = sorted(base.glob("*.safetensors"))
    assert len(shards) == 2
    assert [p.name for p in weight_files(output)] == [p.name for p in shards]
    for path in shards:
        assert load_file(path).keys() == load_file(output / path.name).keys()
    assert _same_file(
        output / "model.safetensors.index.json", base / "model.safetensors.index.json"
    )
    modes = {path.stat().st_mode for path in output.iterdir()}
    assert len(modes) == 1
    assert _loaded(output).dtype == torch.float32


def test_a_tensor_that_the_base_has_twice_stays_twice(tmp_path: Path) -> None:
    """Some bases hold the tied head beside the embedding; so does what is trained from them."""
    base = make_model(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    after = _tensors(_saved(base, tmp_path / "out"))
    assert after.keys() == tensors.keys()
    assert torch.equal(after["lm_head.weight"], after["model.embed_tokens.weight"])


def test_what_transformers_does_not_load_is_taken_over(tmp_path: Path) -> None:
    """A buffer that only older models have is in the result as it is in the base."""
    base = make_model(tmp_path / "base")
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    tensors = load_file(base / "model.safetensors")
    tensors[name] = torch.arange(4.0)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    after = _tensors(_saved(base, tmp_path / "out"))
    assert torch.equal(after[name], tensors[name])
    pickled = torch.load(_saved(base, tmp_path / "bin", "bin") / PICKLED, weights_only=True)
    assert torch.equal(pickled[name], tensors[name])


def test_a_pickled_base_becomes_safetensors(tmp_path: Path) -> None:
    """The files keep their numbers and their tensors, and tied ones are there once."""
    base = make_model(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    tied = {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    halves = [dict(list({**tensors, **tied}.items())[start::2]) for start in (0, 1)]
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    for name, half in zip(names, halves, strict=True):
        torch.save(half, base / name)
    index = {n: names[k] for k in (0, 1) for n in halves[k]}
    (base / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    output = _saved(base, tmp_path / "out")
    assert [p.name for p in weight_files(output)] == [
        n.replace("pytorch_", "").replace(".bin", ".safetensors") for n in names
    ]
    assert _tensors(output).keys() >= tensors.keys()
    assert json.loads((output / "model.safetensors.index.json").read_text())["metadata"]
    _loaded(output)


def test_weights_can_be_written_for_the_tools_of_today(tmp_path: Path) -> None:
    """`pytorch_model.bin` is loaded by transformers and by torch, and tied names share values."""
    base = make_model(tmp_path / "base")
    output = _saved(base, tmp_path / "out", "bin")
    assert [path.name for path in weight_files(output)] == [PICKLED]
    tensors = torch.load(output / PICKLED, weights_only=True)
    head, embedding = tensors["lm_head.weight"], tensors["model.embed_tokens.weight"]
    assert head.untyped_storage().data_ptr() == embedding.untyped_storage().data_ptr()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    with CommittedFile(output / PICKLED, PICKLED) as source:
        spans = [span for span in split(source).spans if span.tensors]
    assert sorted(len(span.tensors) for span in spans) == [1] * (len(tensors) - 2) + [2]
    want = _tensors(_saved(base, tmp_path / "plain"))
    for name, weight in _loaded(output).state_dict().items():
        assert torch.equal(weight, want.get(name, embedding).float())


def _trainer(base: Path) -> Any:
    """Return as much of a trainer as is asked for its model: one with adapters that do something."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    settings = LoraConfig(task_type=TaskType.CAUSAL_LM, r=2, target_modules="all-linear")
    torch.manual_seed(1)
    adapted = get_peft_model(model, settings)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.5)
    return SimpleNamespace(
        model=adapted, accelerator=SimpleNamespace(unwrap_model=lambda model: model)
    )


def test_an_adapter_says_nothing_of_where_it_was_made(tiny_model: Path, tmp_path: Path) -> None:
    """Equal adapters are equal files, name the base as users do, and can be read by others."""
    with quiet():
        for name in ("a", "b"):
            trained_model(_trainer(tiny_model), "lora", tmp_path / name, base_name="org/base")
    for path in sorted((tmp_path / "a").iterdir()):
        assert _same_file(path, tmp_path / "b" / path.name)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/base"
    assert config["target_modules"] == sorted(config["target_modules"])
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert len({path.stat().st_mode for path in (tmp_path / "a").iterdir()}) == 1


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_adapters_are_merged_into_all_digits_of_the_base(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    """What comes out is what PEFT makes of the base as it lies on disk, whatever held it meanwhile."""
    from peft import PeftModel

    adapter = tmp_path / "adapter"
    with quiet():
        merged = trained_model(_trainer(tiny_model), method, adapter, open_base(tiny_model))
        kept = load_file(adapter / "adapter_model.safetensors")
        assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
        base = _loaded(tiny_model).to(torch.bfloat16)
        want = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    for name, weight in merged.state_dict().items():
        assert torch.equal(weight, want.state_dict()[name])
