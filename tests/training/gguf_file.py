"""A GGUF file of a small Llama, as llama.cpp writes it, quantised to eight bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_NAMES = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm"}
_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def make_gguf(path: Path, model: Path) -> Path:
    """Write the model that `tests.training.tiny` made in ``model`` to ``path`` and return that."""
    import gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = dict(AutoModelForCausalLM.from_pretrained(model).named_parameters())
    tokenizer = AutoTokenizer.from_pretrained(model)
    writer = gguf.GGUFWriter(path, "llama")
    _add_tokenizer(writer, tokenizer)
    width = weights["model.norm.weight"].shape[0]
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(width // 4)
    for name, weight in weights.items():
        _add_tensor(writer, name, weight.detach().float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, tokenizer: Any) -> None:
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    words.append("ab")  # there must be one token that two others are merged into
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<|") else 1 for word in words])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(tokenizer.eos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    writer.add_vocab_size(len(words))


def _add_tensor(writer: Any, name: str, values: Any) -> None:
    import gguf
    import numpy as np

    if name in _NAMES:
        target = _NAMES[name]
    else:
        _, _, layer, *part, _ = name.split(".")
        target = f"blk.{layer}.{_PARTS['.'.join(part)]}"
    if target == "token_embd":
        values = np.concatenate([values, values[:1]])  # of the token that was added
    if values.ndim == 1:
        writer.add_tensor(f"{target}.weight", values)
    else:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(f"{target}.weight", gguf.quantize(values, kind), raw_dtype=kind)
