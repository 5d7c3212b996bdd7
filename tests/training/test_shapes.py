"""The shapes of a row: what is learned from each, and which ones are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import UsageError
from modelstore.training.rows import Message, Row
from modelstore.training.shapes import COLUMNS, nearest, rows_of

USER, SYSTEM, BOT = "user", "system", "assistant"


def _rows(*values: object) -> list[Row]:
    return [row for value in values for row in rows_of(value, "a:1")]


def _says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_text_is_all_answer() -> None:
    """A text has no context: the loss is on all of it."""
    (row,) = _rows({"text": "once upon a time", "source": "a book"})
    assert (row.context, row.answer) == ("", "once upon a time")


def test_prompt_and_completion() -> None:
    """A prompt is context and a completion is the answer."""
    (row,) = _rows({"prompt": "2 + 2 =", "completion": " 4"})
    assert (row.context, row.answer) == ("2 + 2 =", " 4")


def test_every_turn_of_the_assistant_is_a_row() -> None:
    """A conversation gives one row per answer, with all that was said before as context."""
    turns = [
        _says(SYSTEM, "s"),
        _says(USER, "a"),
        _says(BOT, "b"),
        _says(USER, "c"),
        _says(BOT, "d"),
    ]
    first, second = _rows({"messages": turns})
    assert first.context == (Message(SYSTEM, "s"), Message(USER, "a"))
    assert first.answer == "b"
    assert second.context == (*first.context, Message(BOT, "b"), Message(USER, "c"))
    assert second.answer == "d"


def test_answers_within_a_prompt_are_not_learned() -> None:
    """Of a prompt and a completion made of messages only the completion's answers are rows."""
    prompt = [_says(USER, "a"), _says(BOT, "b"), _says(USER, "c")]
    (row,) = _rows({"prompt": prompt, "completion": [_says(BOT, "d")]})
    assert row.context == (Message(USER, "a"), Message(BOT, "b"), Message(USER, "c"))
    assert row.answer == "d"


def test_instruction_becomes_a_question() -> None:
    """An instruction and its input are what a user said, the output is the answer."""
    plain, with_input = _rows(
        {"instruction": "Count.", "output": "1 2 3"},
        {"instruction": "Add.", "input": "1 2", "output": "3", "text": "### Add. 1 2 3"},
    )
    assert plain == Row((Message(USER, "Count."),), "1 2 3", plain.where)
    assert with_input.context == (Message(USER, "Add.\n\n1 2"),)


def test_sharegpt() -> None:
    """Turns may be spelled as ShareGPT does, with the system message beside them."""
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    (row,) = _rows({"conversations": turns, "system": "s", "id": "identity_0"})
    assert row.context == (Message(SYSTEM, "s"), Message(USER, "a"))
    assert row.answer == "b"
    assert _rows({"messages": turns}) == _rows(
        {"conversations": [_says(USER, "a"), _says(BOT, "b")]}
    )


def test_a_system_message_beside_others() -> None:
    """It is the first turn of an instruction, and of a prompt made of messages."""
    alpaca, talk = _rows(
        {"instruction": "a", "output": "b", "system": "s"},
        {"prompt": [_says(USER, "a")], "completion": [_says(BOT, "b")], "system": "s"},
    )
    assert alpaca == talk
    assert alpaca.context == (Message(SYSTEM, "s"), Message(USER, "a"))


TALK = [_says(USER, "a"), _says(BOT, "b")]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"promt": "a", "completion": "b"}, "unknown column 'promt'; did you mean 'prompt'?"),
        ({"prompt": "a", "answer": "b"}, "unknown column 'answer'; did you mean 'completion'?"),
        ({"instruction": "a", "response": "b"}, "'response'; did you mean 'output'?"),
        ({"instruction": "a", "output": "b", "inputs": "c"}, "'inputs'; did you mean 'input'?"),
        ({"instruction": "a", "output": "b", "context": "c"}, "'context'; did you mean 'input'?"),
        ({"messages": TALK, "system_prompt": "s"}, "did you mean 'system'?"),
        ({"Text": "a"}, "'Text' (did you mean 'text'?)"),
        ({"question": "a", "answer": "b"}, "'answer' (did you mean 'completion'?)"),
        ({"messages": [{"role": USER, "contents": "a"}]}, "did you mean 'content'?"),
        ({"messages": TALK, "tools": [1]}, "'tools' is a column mstore does not understand"),
        ({"messages": [_says(SYSTEM, "s"), *TALK], "system": "s"}, "'system' is said twice"),
        ({"prompt": "a", "completion": "b", "system": "s"}, "'system' goes with messages"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "has the role ['user']"),
        ({"conversations": [{"from": "bing", "value": "a"}]}, "gpt, human, observation"),
        ({"text": "\ud83d"}, "'text' holds half a character (\\ud83d) at position 0"),
    ],
)
def test_what_is_refused(value: object, problem: str) -> None:
    """A column or key that is probably meant to be another is named with that other."""
    with pytest.raises(UsageError) as caught:
        _rows(value)
    assert caught.value.message.startswith("a:1: ")
    assert problem in caught.value.message


def test_columns_without_a_meaning_are_left_out() -> None:
    """Empty ones and those that are no known column by another name do no harm."""
    (row,) = _rows({"prompt": "a", "completion": "b", "id": 3, "answer": "", "tools": []})
    assert (row.context, row.answer) == ("a", "b")
    assert nearest("category", COLUMNS) == ""


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*COLUMNS, "role", "content", "from", "value", "id"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(value=_values)
def test_any_value_is_rows_or_an_error(value: object) -> None:
    """Whatever JSON holds gives at least one row with an answer, or an error with its line."""
    message, rows = "", []
    try:
        rows = rows_of(value, "a:1")
    except UsageError as error:
        message = error.message
    assert message.startswith("a:1: ") if message else rows
    assert all(row.answer for row in rows)


_said = st.lists(
    st.tuples(st.sampled_from([USER, SYSTEM, BOT, "tool"]), st.text(max_size=5).map("x".__add__)),
    min_size=1,
    max_size=6,
)


@given(said=_said)
def test_every_answer_is_learned_once(said: list[tuple[str, str]]) -> None:
    """The rows of a conversation are its answers in order, each with exactly what came before."""
    answers = [at for at, (role, _) in enumerate(said) if role == BOT and at]
    messages = {"messages": [_says(*turn) for turn in said]}
    sharegpt = {"conversations": [{"from": role, "value": text} for role, text in said]}
    if not answers:
        with pytest.raises(UsageError, match="no answer of the assistant"):
            _rows(messages)
        return
    expected = [Row(tuple(Message(*t) for t in said[:at]), said[at][1], "a:1") for at in answers]
    assert _rows(messages) == _rows(sharegpt) == expected


@given(one=_said, other=_said)
def test_equal_keys_mean_equal_rows(
    one: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    """Rows have one key if they teach the same, wherever they stand, and else two."""
    first, second = (
        Row(tuple(Message(*turn) for turn in said[:-1]), said[-1][1], where)
        for where, said in (("1", one), ("2", other))
    )
    same = (first.context, first.answer) == (second.context, second.answer)
    assert (first.key == second.key) == same
    assert Row("user", "a", "1").key != Row((), "a", "1").key
