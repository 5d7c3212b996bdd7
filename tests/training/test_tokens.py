"""From rows to tokens: where the loss lies, and what is cut."""

from __future__ import annotations

import pytest

from modelstore.errors import UsageError
from modelstore.training.data import Message, Row
from modelstore.training.tokens import IGNORED, Samples, tokenize
from tests.training.tiny import make_tokenizer

pytest.importorskip("transformers")

TALK = Row((Message("user", "Who?"),), "Me.", "a:1")


def _learned(samples: Samples, tokenizer: object, index: int = 0) -> str:
    ids = [label for label in samples.labels[index] if label != IGNORED]
    return tokenizer.decode(ids)  # type: ignore[attr-defined, no-any-return]


def test_loss_is_on_the_answer_alone() -> None:
    """Of a conversation the model learns the answer and its end, not the question."""
    tokenizer = make_tokenizer()
    samples = tokenize([TALK], tokenizer, 100)
    assert _learned(samples, tokenizer) == "Me.<|im_end|>\n"
    assert tokenizer.decode(samples.token_ids[0]) == (
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nMe.<|im_end|>\n"
    )


def test_plain_rows_end_with_the_end_token() -> None:
    """A completion is learned with the token that ends it, its prompt is not."""
    tokenizer = make_tokenizer()
    samples = tokenize([Row("2+2=", "4", "a:1"), Row("", "text", "a:2")], tokenizer, 100)
    assert _learned(samples, tokenizer, 0) == "4<|im_end|>"
    assert _learned(samples, tokenizer, 1) == "text<|im_end|>"
    assert samples.tokens == 11
    assert samples.learned_tokens == 7


def test_long_rows() -> None:
    """A long text is cut into pieces, a long answer loses its end, a long question is dropped."""
    tokenizer = make_tokenizer()
    rows = [Row("", "x" * 25, "a:1"), Row("ab", "y" * 25, "a:2"), Row("z" * 10, "c", "a:3")]
    samples = tokenize(rows, tokenizer, 10)
    assert [len(ids) for ids in samples.token_ids] == [10, 10, 6, 10]
    assert (samples.truncated, samples.dropped) == (1, 1)
    with pytest.raises(UsageError, match="no row has an answer within 10 tokens"):
        tokenize(rows[2:], tokenizer, 10)


def test_a_row_after_many() -> None:
    """A data set has every sample with its labels, in order."""
    tokenizer = make_tokenizer()
    rows = [Row("ab", f"{number}", f"a:{number}") for number in range(1001)]
    samples = tokenize(rows, tokenizer, 100)
    dataset = samples.dataset()
    assert dataset.column_names == ["input_ids", "labels"]
    assert tuple(dataset["input_ids"]) == samples.token_ids
    assert tuple(dataset["labels"]) == samples.labels
    assert samples.labels[1000][:2] == [IGNORED, IGNORED]
    assert tokenizer.decode(samples.labels[1000][2:]) == "1000<|im_end|>"


def test_a_book_is_cut_where_lines_end() -> None:
    """A text of millions of characters is tokenized in pieces, with nothing lost in between."""
    tokenizer = make_tokenizer()
    book = "".join(f"line {number}\n" for number in range(100_000))
    samples = tokenize([Row("", book, "a:1")], tokenizer, 1 << 16)
    shown = "".join(tokenizer.decode(ids) for ids in samples.token_ids)
    assert shown == f"{book}<|im_end|>"
    assert samples.learned_tokens == samples.tokens == len(book) + 1
