"""A model made from tensors in memory equals one that was loaded from files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from modelstore.errors import UsageError
from modelstore.integrations.transformers import load_model, load_tokenizer
from tests.training.tiny import make_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
load_file = pytest.importorskip("safetensors.torch").load_file


def _weights(directory: Path) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def _small_files(directory: Path, target: Path) -> Path:
    return shutil.copytree(directory, target, ignore=shutil.ignore_patterns("*.safetensors*"))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", ["50GB", "30KB"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_equals_a_checkout(tmp_path: Path, tied: bool, shard: str, dtype: str) -> None:
    """Tensors, dtypes, ties, configurations and answers are those of `from_pretrained`."""
    directory = make_model(tmp_path / "model", dtype, tied=tied, shard=shard)
    small = _small_files(directory, tmp_path / "small")
    plain = transformers.AutoModelForCausalLM.from_pretrained(directory)
    ours = load_model(lambda: _weights(directory), small)
    assert type(ours) is type(plain)
    assert (ours.lm_head.weight is ours.model.embed_tokens.weight) == tied
    expected = plain.state_dict()
    assert expected.keys() == ours.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name])
    assert ours.generation_config == plain.generation_config
    assert not ours.training
    token_ids = torch.tensor([[1, 2, 3, 4]])
    assert torch.equal(ours(token_ids).logits, plain(token_ids).logits)


def test_weights_are_not_copied(tiny_model: Path, tmp_path: Path) -> None:
    """The parameters are the tensors that were handed over, not copies of them."""
    weights = _weights(tiny_model)
    model = load_model(lambda: weights, _small_files(tiny_model, tmp_path / "small"))
    name = "model.layers.1.mlp.down_proj.weight"
    assert model.state_dict()[name].data_ptr() == weights[name].data_ptr()


def test_both_names_of_tied_weights_may_be_given(tiny_model: Path, tmp_path: Path) -> None:
    """A pytorch_model.bin names a tied tensor twice, and the tie is kept."""
    weights = _weights(tiny_model)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model = load_model(lambda: weights, _small_files(tiny_model, tmp_path / "small"))
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_options_are_handed_on(tiny_model: Path, tmp_path: Path) -> None:
    """What `from_pretrained` takes, such as a dtype, is taken here too."""
    small = _small_files(tiny_model, tmp_path / "small")
    model = load_model(lambda: _weights(tiny_model), small, dtype=torch.float32)
    assert model.dtype == torch.float32


def test_a_missing_tensor_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    """Where transformers would go on with random values, we do not."""
    weights = _weights(tiny_model)
    del weights["model.norm.weight"]
    with pytest.raises(UsageError, match=r"lacks the tensor 'model\.norm\.weight'"):
        load_model(lambda: weights, _small_files(tiny_model, tmp_path / "small"))


def test_an_unknown_architecture_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    """A model that transformers has no class for is refused, not run."""
    small = _small_files(tiny_model, tmp_path / "small")
    config = (small / "config.json").read_text()
    (small / "config.json").write_text(config.replace("LlamaForCausalLM", "EvilForCausalLM"))
    with pytest.raises(UsageError, match="no class for EvilForCausalLM"):
        load_model(lambda: _weights(tiny_model), small)


def test_the_tokenizer_is_the_same(tiny_model: Path) -> None:
    """The tokenizer of a directory comes with its chat template."""
    tokenizer = load_tokenizer(tiny_model)
    assert tokenizer.decode(tokenizer("été?")["input_ids"]) == "été?"
    assert tokenizer.chat_template
