"""The two models of the set-ups, built small: the same parts as the real ones, and random weights.

Each has the configuration class, the kind of tokenizer and the chat template of its model, word for
word; only widths, depths and vocabularies are small.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.training.templates import llama_3_2, qwen_3

LLAMA_SIGNS = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<|finetune_right_pad_id|>"),
)
QWEN_SIGNS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

ROPE_LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""As in the config.json of Llama 3.2 1B."""


def make_llama(directory: Path) -> Path:
    """Save a small Llama 3.2 Instruct: tied embeddings, scaled rotary positions, one file."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(LLAMA_SIGNS, llama_3_2(), bos="<|begin_of_text|>", eos="<|eot_id|>")
    config = LlamaConfig(
        **_sizes(tokenizer),
        head_dim=16,
        max_position_embeddings=131072,
        rope_theta=500000.0,
        rope_scaling=ROPE_LLAMA_3,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|begin_of_text|>"),
    )
    return _save(LlamaForCausalLM, config, tokenizer, directory, "50GB")


def make_qwen(directory: Path) -> Path:
    """Save a small Qwen3: norms of queries and keys, an output layer of its own, several shards."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _tokenizer(QWEN_SIGNS, qwen_3(), pad="<|endoftext|>", eos="<|im_end|>")
    config = Qwen3Config(
        **_sizes(tokenizer),
        head_dim=32,
        max_position_embeddings=40960,
        rope_theta=1000000.0,
        tie_word_embeddings=False,
        bos_token_id=None,
    )
    return _save(Qwen3ForCausalLM, config, tokenizer, directory, "100KB")


def _sizes(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _tokenizer(
    signs: tuple[str, ...],
    chat_template: str,
    *,
    eos: str,
    bos: str = "",
    pad: str = "<|finetune_right_pad_id|>",
) -> Any:
    """Return a byte-level tokenizer with the model's own signs; it begins texts with ``bos``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(list(signs))
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=bos or None, eos_token=eos, pad_token=pad
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def _save(kind: Any, config: Any, tokenizer: Any, directory: Path, shard: str) -> Path:
    import torch

    torch.manual_seed(0)
    kind(config).to(torch.bfloat16).save_pretrained(directory, max_shard_size=shard)
    tokenizer.save_pretrained(directory)
    return directory
