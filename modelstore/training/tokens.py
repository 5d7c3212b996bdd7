"""From rows to tokens, with the loss on the answer and nowhere else.

Context and answer are rendered by the tokenizer's own chat template and tokenized apart, as they
are when the model is asked: a token never spans the boundary.
Where the answer begins is found by rendering the question alone, so a template needs no marks of
the assistant's turns (``{% generation %}``), and one that rewrites history is shown every answer
with the history that it would have when the model is asked (see `modelstore.training.chat`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from modelstore.errors import UsageError
from modelstore.training.chat import Chat
from modelstore.training.rows import Row

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token without loss, as torch's cross entropy takes it."""

_CHUNK = 1 << 20
"""Characters of a text that are tokenized at once; a book would take 100 bytes a token."""

_BATCH = 1000
"""Samples that are made lists of at once, on their way into a data set."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What a model is shown, four bytes a token.

    Attributes:
        ids: the token ids of each sample, int32.
        starts: per sample how many tokens at its beginning are without loss.
        truncated: rows whose answer lost its end to ``max_length``.
        dropped: rows whose context alone filled ``max_length``.
    """

    ids: tuple[array[int], ...]
    starts: tuple[int, ...]
    truncated: int = 0
    dropped: int = 0

    @property
    def token_ids(self) -> tuple[list[int], ...]:
        """One list per sample."""
        return tuple(ids.tolist() for ids in self.ids)

    @property
    def labels(self) -> tuple[list[int], ...]:
        """Per token its id, or `IGNORED`; as long as the sample's ids."""
        return tuple(map(_labels, self.ids, self.starts))

    @property
    def tokens(self) -> int:
        """Tokens of all samples together."""
        return sum(map(len, self.ids))

    @property
    def learned_tokens(self) -> int:
        """Tokens with loss, of all samples together."""
        return self.tokens - sum(self.starts)

    def dataset(self) -> Dataset:
        """Return the samples as a data set in memory, with columns input_ids and labels."""
        from datasets import Dataset, concatenate_datasets

        pairs = iter(zip(self.ids, self.starts, strict=True))
        parts = []
        while batch := list(islice(pairs, _BATCH)):
            shown = {"input_ids": [ids.tolist() for ids, _ in batch]}
            parts.append(Dataset.from_dict({**shown, "labels": [_labels(*pair) for pair in batch]}))
        return concatenate_datasets(parts)


def _labels(ids: array[int], start: int) -> list[int]:
    return [IGNORED] * start + ids[start:].tolist()


def tokenize(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Samples:
    """Return the samples of ``rows``, in order, none longer than ``max_length`` tokens.

    A text without context that is longer becomes several samples; a longer answer loses its end.

    Raises:
        UsageError: a conversation cannot be rendered, or nothing is left to learn.
    """
    chat = Chat(tokenizer)
    samples: list[array[int]] = []
    starts: list[int] = []
    truncated = dropped = 0
    for row in rows:
        context, answer = _token_ids(row, tokenizer, chat)
        if row.context == "":
            pieces = _pieces(context + answer, max_length)
            samples += pieces
            starts += [0] * len(pieces)
        elif len(context) < max_length:
            truncated += len(context) + len(answer) > max_length
            samples.append((context + answer)[:max_length])
            starts.append(len(context))
        else:
            dropped += 1
    if not samples:
        raise UsageError(
            f"no row has an answer within {max_length} tokens",
            "raise --max-length, or shorten them",
        )
    return Samples(tuple(samples), tuple(starts), truncated, dropped)


def _pieces(ids: array[int], max_length: int) -> list[array[int]]:
    pieces = [ids[start : start + max_length] for start in range(0, len(ids), max_length)]
    return [piece for piece in pieces if len(piece) > 1]  # a single token predicts nothing


def _token_ids(
    row: Row, tokenizer: PreTrainedTokenizerBase, chat: Chat
) -> tuple[array[int], array[int]]:
    """Return the ids of the row's context and of its answer."""
    if not isinstance(row.context, str):
        context, answer = chat.render(row.context, row.answer, row.where)
        return _ids(context, tokenizer), _ids(answer, tokenizer)
    answer_ids = _ids(row.answer, tokenizer)
    end = tokenizer.eos_token_id
    if end is not None and answer_ids[-1:].tolist() != [end]:
        answer_ids.append(end)
    return _beginning(tokenizer) + _ids(row.context, tokenizer), answer_ids


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> array[int]:
    ids = array("i")
    for chunk in _chunks(text):
        ids.extend(tokenizer(chunk, add_special_tokens=False)["input_ids"])
    return ids


def _chunks(text: str) -> Iterator[str]:
    """Cut a long text where a line ends: tokens that span lines are rare."""
    start = 0
    while len(text) - start > _CHUNK:
        end = text.rfind("\n", start, start + _CHUNK) + 1 or start + _CHUNK
        yield text[start:end]
        start = end
    yield text[start:]


def _beginning(tokenizer: PreTrainedTokenizerBase) -> array[int]:
    """Return the beginning-of-text token if this tokenizer puts one before plain text."""
    first = tokenizer("")["input_ids"][:1]
    return array("i", first if first and first[0] == tokenizer.bos_token_id else [])
