"""Ollama's Modelfile: what it reads to make a model of a GGUF file.

Source of the syntax: github.com/ollama/ollama, docs/modelfile.md and parser/parser.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

NAME = "Modelfile"

_QUOTES = '"""'
_WORD = re.compile(r"\w{1,64}\Z", re.ASCII)
_NAMED = re.compile(r"^[ \t]*FROM[ \t]+\S.*$", re.IGNORECASE | re.MULTILINE)


def modelfile(
    weights: Sequence[str],
    *,
    adapter: str = "",
    texts: Sequence[tuple[str, str]] = (),
    parameters: Mapping[str, object] | None = None,
    messages: Sequence[tuple[str, str]] = (),
) -> str:
    """Return a Modelfile.

    Args:
        weights: GGUF files beside it: the model, and what it takes to see.
        adapter: a file beside it, or "".
        texts: instructions, as in "TEMPLATE", and what they say; what the syntax cannot say is left
            out.
        parameters: numbers, flags, texts, or lists of them.
        messages: of a conversation that begins every one: who, and what.
    """
    lines = [f"FROM ./{name}" for name in weights]
    lines += [f"ADAPTER ./{adapter}"] if adapter else []
    for word, text in texts:
        said = _quoted(text)
        lines.append(f"{word} {said}" if said else f"# {word}: its text cannot be said here")
    lines += [f"PARAMETER {key} {value}" for key, value in _parameters(parameters or {})]
    turns = [(role, _quoted(text)) for role, text in messages if _WORD.match(role)]
    lines += [f"MESSAGE {role} {text}" for role, text in turns if text]
    return "\n".join(lines) + "\n"


def with_weights(text: str, weights: Sequence[str]) -> str:
    """Return a Modelfile that names other weights, and is the same otherwise."""
    rest = _NAMED.sub("", text).lstrip("\n")
    return "".join(f"FROM ./{name}\n" for name in weights) + rest


def _quoted(text: str) -> str:
    """Return a text as the syntax says it; "" where it cannot."""
    if _QUOTES in text or text.endswith('"'):
        return ""
    plain = text.strip() == text and "\n" not in text and '"' not in text
    return f'"{text}"' if plain else f"{_QUOTES}{text}{_QUOTES}"


def _parameters(parameters: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in parameters.items():
        if not _WORD.match(key):
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bool):
                yield key, str(one).lower()
            elif isinstance(one, int | float):
                yield key, repr(one)
            elif isinstance(one, str) and _quoted(one):
                yield key, _quoted(one)
