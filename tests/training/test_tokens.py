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


def test_conversations_need_a_chat_template() -> None:
    """A base without a chat template cannot learn conversations, and the error says what can."""
    with pytest.raises(UsageError, match="a:1: a conversation") as caught:
        tokenize([TALK], make_tokenizer(chat_template=""), 100)
    assert "prompt and completion" in caught.value.hint


def test_a_template_may_refuse() -> None:
    """What a template raises is told with the row it was raised for."""
    tokenizer = make_tokenizer("{{ raise_exception('only users may speak') }}")
    with pytest.raises(UsageError, match=r"a:1: .* only users may speak"):
        tokenize([TALK], tokenizer, 100)


def test_a_template_that_rewrites_the_question_is_refused() -> None:
    """Where the answer does not follow the question as it would be asked, no loss can be placed."""
    tokenizer = make_tokenizer(
        "{% if add_generation_prompt %}ask{% else %}told{% endif %}{{ messages[-1].content }}"
    )
    with pytest.raises(UsageError, match="does not put the answer after the question"):
        tokenize([TALK], tokenizer, 100)


def test_templates_do_not_see_the_day() -> None:
    """Templates that write today's date write the same date every day."""
    dated = make_tokenizer(
        "{{ date_string }}|{{ strftime_now('%Y-%m-%d') }}|"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    samples = tokenize([TALK], dated, 100)
    assert dated.decode(samples.token_ids[0]) == "26 Jul 2024|2024-07-26|Who?Me."
