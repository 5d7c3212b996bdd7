"""The real chat templates of the two set-ups, word for word, as trl carries them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def llama_3_2() -> str:
    """Return the chat template of Llama 3.2 Instruct."""
    return _template("llama3_2")


@cache
def qwen_3() -> str:
    """Return the chat template of Qwen3."""
    return _template("qwen3")


def _template(name: str) -> str:
    path = files("trl").joinpath("chat_templates", f"{name}.jinja")
    return path.read_text(encoding="utf-8")
