"""From rows to tokens, with the loss on the answer and nowhere else.

Context and answer are rendered by the tokenizer's own chat template and tokenized apart, as they
are when the model is asked: a token never spans the boundary.
Rendering is independent of the day it runs on: templates that write today's date get a fixed one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from modelstore.errors import UsageError
from modelstore.training.data import Message, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RENDER_DATE = date(2024, 7, 26)
"""The day that chat templates see; Llama 3.2's own template falls back to this one."""

IGNORED = -100
"""The label of a token without loss, as torch's cross entropy takes it."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What a model is shown.

    Attributes:
        token_ids: one list per sample.
        labels: per token its id, or `IGNORED`; as long as the sample's ids.
        truncated: rows whose answer lost its end to ``max_length``.
        dropped: rows whose context alone filled ``max_length``.
    """

    token_ids: tuple[list[int], ...]
    labels: tuple[list[int], ...]
    truncated: int
    dropped: int

    @property
    def tokens(self) -> int:
        """Tokens of all samples together."""
        return sum(map(len, self.token_ids))

    @property
    def learned_tokens(self) -> int:
        """Tokens with loss, of all samples together."""
        return sum(label != IGNORED for labels in self.labels for label in labels)


def tokenize(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Samples:
    """Return the samples of ``rows``, in order, none longer than ``max_length`` tokens.

    A text without context that is longer becomes several samples; a longer answer loses its end.

    Raises:
        UsageError: a conversation cannot be rendered, or nothing is left to learn.
    """
    token_ids: list[list[int]] = []
    labels: list[list[int]] = []
    truncated = dropped = 0
    for row in rows:
        context, answer = _token_ids(row, tokenizer)
        if row.context == "":
            pieces = _pieces(context + answer, max_length)
            token_ids += pieces
            labels += pieces
        elif len(context) < max_length:
            truncated += len(context) + len(answer) > max_length
            token_ids.append((context + answer)[:max_length])
            labels.append([IGNORED] * len(context) + answer[: max_length - len(context)])
        else:
            dropped += 1
    if not token_ids:
        raise UsageError(
            f"no row has an answer within {max_length} tokens",
            "raise --max-length, or shorten them",
        )
    return Samples(tuple(token_ids), tuple(labels), truncated, dropped)


def _pieces(ids: list[int], max_length: int) -> list[list[int]]:
    pieces = [ids[start : start + max_length] for start in range(0, len(ids), max_length)]
    return [piece for piece in pieces if len(piece) > 1]  # a single token predicts nothing


def _token_ids(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids of the row's context and of its answer."""
    if not isinstance(row.context, str):
        context, answer = _rendered(row.context, row, tokenizer)
        return _ids(context, tokenizer), _ids(answer, tokenizer)
    answer_ids = _ids(row.answer, tokenizer)
    end = tokenizer.eos_token_id
    if end is not None and answer_ids[-1:] != [end]:
        answer_ids.append(end)
    return _beginning(tokenizer) + _ids(row.context, tokenizer), answer_ids


def _rendered(
    said: tuple[Message, ...], row: Row, tokenizer: PreTrainedTokenizerBase
) -> tuple[str, str]:
    if not tokenizer.chat_template:
        raise UsageError(
            f"{row.where}: a conversation, but the base's tokenizer has no chat template",
            "give rows with prompt and completion, or start from an instruct model",
        )
    turns = [{"role": turn.role, "content": turn.content} for turn in said]
    context = _render(turns, tokenizer, row.where, asks=True)
    turns.append({"role": "assistant", "content": row.answer})
    whole = _render(turns, tokenizer, row.where, asks=False)
    if not whole.startswith(context):
        raise UsageError(
            f"{row.where}: the base's chat template does not put the answer after the question",
            "give rows with prompt and completion",
        )
    return context, whole[len(context) :]


def _render(
    turns: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, where: str, *, asks: bool
) -> str:
    from jinja2 import TemplateError

    # transformers lets a template see data only, so that a clock of ours could not be passed in
    template = _CLOCK.sub(_fixed_date, tokenizer.get_chat_template())
    try:
        return str(
            tokenizer.apply_chat_template(
                turns,
                chat_template=template,
                add_generation_prompt=asks,
                tokenize=False,
                date_string=f"{RENDER_DATE:%d %b %Y}",
            )
        )
    except TemplateError as error:
        raise UsageError(f"{where}: the base's chat template refuses it: {error}") from error


_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(?P<format>.*?)\1\s*\)""")


def _fixed_date(call: re.Match[str]) -> str:
    return f'"{RENDER_DATE.strftime(call["format"])}"'


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the beginning-of-text token if this tokenizer puts one before plain text."""
    first = tokenizer("")["input_ids"][:1]
    return list(first) if first and first[0] == tokenizer.bos_token_id else []
