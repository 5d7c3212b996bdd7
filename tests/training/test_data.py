"""Reading training data: the shapes of a row, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import NotFoundError, UsageError
from modelstore.hashing import digest_of
from modelstore.training.data import Message, Row, load_data


def _file(directory: Path, name: str, content: str) -> Path:
    path = directory / name
    path.write_bytes(content.encode("utf-8"))
    return path


def _rows(directory: Path, *values: object) -> tuple[Row, ...]:
    lines = "\n".join(json.dumps(value) for value in values)
    return load_data([_file(directory, "rows.jsonl", lines)]).rows


USER, SYSTEM, BOT = "user", "system", "assistant"


def _says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_text_is_all_answer(tmp_path: Path) -> None:
    """A text has no context: the loss is on all of it."""
    (row,) = _rows(tmp_path, {"text": "once upon a time", "source": "a book"})
    assert (row.context, row.answer) == ("", "once upon a time")


def test_prompt_and_completion(tmp_path: Path) -> None:
    """A prompt is context and a completion is the answer."""
    (row,) = _rows(tmp_path, {"prompt": "2 + 2 =", "completion": " 4"})
    assert (row.context, row.answer) == ("2 + 2 =", " 4")


def test_every_turn_of_the_assistant_is_a_row(tmp_path: Path) -> None:
    """A conversation gives one row per answer, with all that was said before as context."""
    turns = [
        _says(SYSTEM, "s"),
        _says(USER, "a"),
        _says(BOT, "b"),
        _says(USER, "c"),
        _says(BOT, "d"),
    ]
    first, second = _rows(tmp_path, {"messages": turns})
    assert first.context == (Message(SYSTEM, "s"), Message(USER, "a"))
    assert first.answer == "b"
    assert second.context == (*first.context, Message(BOT, "b"), Message(USER, "c"))
    assert second.answer == "d"


def test_answers_within_a_prompt_are_not_learned(tmp_path: Path) -> None:
    """Of a prompt and a completion made of messages only the completion's answers are rows."""
    prompt = [_says(USER, "a"), _says(BOT, "b"), _says(USER, "c")]
    (row,) = _rows(tmp_path, {"prompt": prompt, "completion": [_says(BOT, "d")]})
    assert row.context == (Message(USER, "a"), Message(BOT, "b"), Message(USER, "c"))
    assert row.answer == "d"


def test_instruction_becomes_a_question(tmp_path: Path) -> None:
    """An instruction and its input are what a user said, the output is the answer."""
    plain, with_input = _rows(
        tmp_path,
        {"instruction": "Count.", "output": "1 2 3"},
        {"instruction": "Add.", "input": "1 2", "output": "3", "text": "### Add. 1 2 3"},
    )
    assert plain == Row((Message(USER, "Count."),), "1 2 3", plain.where)
    assert with_input.context == (Message(USER, "Add.\n\n1 2"),)


def test_txt_is_one_text(tmp_path: Path) -> None:
    """A .txt file is one row, line breaks and all."""
    (row,) = load_data([_file(tmp_path, "book.txt", "one\n\ntwo\n")]).rows
    assert row.answer == "one\n\ntwo\n"


def test_files_are_identified(tmp_path: Path) -> None:
    """Each file is recorded with its size, its rows as counted in the file, and its digest."""
    turns = [_says(USER, "a"), _says(BOT, "b"), _says(USER, "c"), _says(BOT, "d")]
    talk = _file(tmp_path, "talk.json", json.dumps([{"messages": turns}]))
    book = _file(tmp_path, "book.txt", "é")
    data = load_data([talk, book])
    assert [(file.name, file.rows) for file in data.files] == [("talk.json", 1), ("book.txt", 1)]
    assert data.files[1].size == 2
    assert data.files[1].blake3 == digest_of("é".encode())
    assert len(data.rows) == 3


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
    ascii_only=st.booleans(),
)
def test_jsonl_and_json_hold_the_same_rows(
    texts: list[str], ascii_only: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the text, and however it is escaped, both kinds of file give it back with its line."""
    directory = tmp_path_factory.mktemp("rows")
    lines = [json.dumps({"text": text}, ensure_ascii=ascii_only) for text in texts]
    by_line = load_data([_file(directory, "a.jsonl", "\n".join(lines) + "\n")]).rows
    in_array = load_data([_file(directory, "a.json", "[" + ",\n".join(lines) + "]")]).rows
    assert [row.answer for row in by_line] == texts
    assert [row.answer for row in in_array] == texts
    numbers = [int(row.where.rsplit(":", 1)[1]) for row in in_array]
    assert numbers == list(range(1, len(texts) + 1))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "unfinished', "not JSON: Unterminated string starting at at column 10"),
        ("[1, 2]", "a row is an object, this is an array"),
        ("{}", "none of the keys of a row: it is empty"),
        ('{"question": "?"}', "none of the keys of a row: 'question'"),
        ('{"text": 3}', "'text' is a number, not a string"),
        ('{"text": ""}', "'text' is empty"),
        ('{"prompt": "p"}', "'completion' is missing"),
        ('{"prompt": ["p"], "completion": "c"}', "'prompt' is an array, not a string"),
        ('{"instruction": "i", "input": [1], "output": "o"}', "'input' is an array, not a string"),
        ('{"messages": "hello"}', "'messages' is not a list of messages"),
        ('{"messages": [{"role": "user", "content": "?"}]}', "no answer of the assistant"),
        ('{"messages": [{"role": "assistant", "content": "Hi!"}]}', "no answer of the assistant"),
        ('{"messages": [{"role": "robot", "content": "?"}]}', "has the role 'robot'"),
        ('{"messages": [{"role": "assistant", "content": null}]}', "'content' is null"),
        (
            '{"messages": [{"role": "assistant", "content": "x", "tool_calls": [1]}]}',
            "messages[0] has keys mstore does not understand: 'tool_calls'",
        ),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, line: str, problem: str) -> None:
    """What is wrong with a row is said in one sentence that begins with file and line."""
    path = _file(tmp_path, "rows.jsonl", f'{{"text": "fine"}}\n\n{line}\n')
    with pytest.raises(UsageError) as caught:
        load_data([path])
    assert caught.value.message.startswith(f"{path}:3: ")
    assert problem in caught.value.message


def test_json_errors_name_the_line(tmp_path: Path) -> None:
    """A row of an array, and a slip of its syntax, is found by the line it stands on."""
    wrong_row = _file(tmp_path, "a.json", '[\n {"text": "a"},\n {"text":\n  7}\n]')
    with pytest.raises(UsageError, match=r"a\.json:3: 'text' is a number"):
        load_data([wrong_row])
    slip = _file(tmp_path, "b.json", '[\n {"text": "a"}\n {"text": "b"}\n]')
    with pytest.raises(UsageError, match=r"b\.json:3: not JSON"):
        load_data([slip])
    with pytest.raises(UsageError, match=r"c\.json:1: not an array of rows"):
        load_data([_file(tmp_path, "c.json", '{"text": "a"}')])


def test_other_encodings_are_refused_by_line(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are an error on their line, a byte order mark is not."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(UsageError, match=r"rows\.jsonl:2: not UTF-8"):
        load_data([path])


def test_files_that_cannot_be_data(tmp_path: Path) -> None:
    """No file, a missing one, one of another kind and an empty one are each refused."""
    with pytest.raises(UsageError, match="no data"):
        load_data([])
    with pytest.raises(NotFoundError, match="there is no file"):
        load_data([tmp_path / "nowhere.jsonl"])
    with pytest.raises(UsageError, match="no kind of data file"):
        load_data([_file(tmp_path, "rows.csv", "a,b")])
    with pytest.raises(UsageError, match="has no rows"):
        load_data([_file(tmp_path, "empty.jsonl", "\n\n")])


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """JSON that is nested beyond reason is an error like any other."""
    with pytest.raises(UsageError, match=r"rows\.jsonl:1: not JSON"):
        load_data([_file(tmp_path, "rows.jsonl", "[" * 200_000)])
