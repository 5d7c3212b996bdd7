"""Reading training data: what the files come to, and errors that name the line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import NotFoundError, UsageError
from modelstore.hashing import digest_of
from modelstore.training.data import Data, load_data
from modelstore.training.readers import SUFFIXES


def _file(directory: Path, name: str, content: str) -> Path:
    path = directory / name
    path.write_bytes(content.encode("utf-8"))
    return path


def _lines(directory: Path, name: str, *values: object) -> Path:
    return _file(directory, name, "\n".join(map(json.dumps, values)))


def _texts(directory: Path, name: str, *texts: str) -> Path:
    return _lines(directory, name, *({"text": text} for text in texts))


def _load(path: Path, split: float = 0.0) -> Data | str:
    """Return what is in a file, or the message that says why not."""
    try:
        return load_data([path], split=split)
    except UsageError as error:
        return error.message


USER, BOT = "user", "assistant"


def _says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


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
    assert [file.path for file in data.files] == [str(talk), str(book)]
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
    with pytest.raises(UsageError, match="no kind of data file") as other:
        load_data([_file(tmp_path, "rows.parquet", "PAR1")])
    assert ".jsonl, .json, .csv, .txt" in other.value.hint
    with pytest.raises(UsageError, match="has no rows"):
        load_data([_file(tmp_path, "empty.jsonl", "\n\n")])
    with pytest.raises(UsageError, match="has no rows"):
        load_data([_file(tmp_path, "empty.csv", "")])
    with pytest.raises(UsageError, match="has no rows"):
        load_data([_file(tmp_path, "names.csv", "prompt,completion\n")])
    with pytest.raises(UsageError, match="has no rows"):
        load_data([_file(tmp_path, "empty.json", "[ ]")])


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """JSON that is nested beyond reason is an error like any other."""
    with pytest.raises(UsageError, match=r"rows\.jsonl:1: not JSON"):
        load_data([_file(tmp_path, "rows.jsonl", "[" * 200_000)])


def test_a_csv_file_is_rows(tmp_path: Path) -> None:
    """The first line names the columns; quotes hold commas, quotes and line breaks."""
    text = 'prompt, completion,id\r\n"a, ""b""\r\nc",d,1\r\n\r\ne,f,2\r\n'
    data = load_data([_file(tmp_path, "rows.csv", "\ufeff" + text)])
    first, second = data.rows
    assert (first.context, first.answer) == ('a, "b"\r\nc', "d")
    assert (second.context, second.answer) == ("e", "f")
    assert [row.where.rsplit(":", 1)[1] for row in data.rows] == ["2", "5"]
    assert data.files[0].rows == 2
    assert data.ignored == ("id",)


@pytest.mark.parametrize("sign", [";", "\t"])
def test_csv_of_other_spreadsheets(tmp_path: Path, sign: str) -> None:
    """Semicolons or tabs between the cells are noticed by the names of the columns."""
    text = f"instruction{sign}output\nadd 1, 2{sign}3\n"
    (row,) = load_data([_file(tmp_path, "rows.csv", text)]).rows
    assert row.answer == "3"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a,b\n1,2\n", 1, "none of the columns is known: 'a', 'b'"),
        ("text,text\n1,2\n", 1, "two columns have the name 'text'"),
        ('text,id\n"x\ny",1\n"z"\n', 4, "the row has 1 cells, and 2 columns are named"),
        ('text\n"x\ny" z\n', 2, "not CSV: "),
        ('text\nfine\n"x\ny\n', 3, "not CSV: "),
        ("prompt,completion\nx,\n", 2, "'completion' is empty"),
        ("prompt,completon\nx,y\n", 2, "unknown column 'completon'; did you mean 'completion'?"),
    ],
)
def test_a_wrong_csv_row_is_named_by_its_line(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    """A row is where its first line is, whatever line breaks its cells and others hold."""
    path = _file(tmp_path, "rows.csv", text)
    with pytest.raises(UsageError) as caught:
        load_data([path])
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert problem in caught.value.message


def test_bytes_of_another_encoding_in_csv(tmp_path: Path) -> None:
    """They are found by their line as well."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b'text\n"a\nb"\ncaf\xe9\n')
    with pytest.raises(UsageError, match=r"rows\.csv:4: not UTF-8"):
        load_data([path])


def test_a_long_cell(tmp_path: Path) -> None:
    """A cell may be longer than the 128 Ki characters that Python's reader stops at."""
    (row,) = load_data([_file(tmp_path, "rows.csv", "text\n" + "x" * 200_000)]).rows
    assert len(row.answer) == 200_000


_cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(rows=st.lists(st.tuples(_cells, _cells), min_size=1, max_size=5))
def test_csv_gives_back_what_was_written(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever Python's own writer writes is read as it was, and each row knows its line."""
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(("prompt", "completion"))
        writer.writerows(rows)
    data = load_data([path])
    assert [(row.context, row.answer) for row in data.rows] == rows
    line = 2
    for (prompt, completion), row in zip(rows, data.rows, strict=True):
        assert row.where == f"{path}:{line}"
        line += 1 + prompt.count("\n") + completion.count("\n")


@pytest.mark.parametrize("text", ["[1", "[{}", '[{"text": "a"},]', '[{"text": "a"}] x', "[,]", "["])
def test_arrays_that_end_wrongly(tmp_path: Path, text: str) -> None:
    """An array that is cut, that goes on after its end, or that has a comma too many is refused."""
    with pytest.raises(UsageError, match=r"rows\.json:1: "):
        load_data([_file(tmp_path, "rows.json", text)])


@given(text=st.text(alphabet='[]{}",: \n\\textu0d8', max_size=40), suffix=st.sampled_from(SUFFIXES))
def test_anything_is_rows_or_an_error(
    text: str, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a file holds, it gives rows or an error that names it, and never another failure."""
    path = _file(tmp_path_factory.mktemp("any"), f"rows{suffix}", text)
    found = _load(path)
    assert found.rows if isinstance(found, Data) else str(path) in found


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    """Columns that say nothing of what is learned are counted as left out, of all files."""
    first = _lines(tmp_path, "a.jsonl", {"text": "a", "source": "s"}, {"text": "b", "id": 1})
    second = _lines(tmp_path, "b.jsonl", {"text": "c", "url": ""})
    assert load_data([first], evaluation=[second]).ignored == ("id", "source", "url")


def test_duplicates_are_counted(tmp_path: Path) -> None:
    """A row is there twice if it teaches the same, in whichever shape and file; it is kept."""
    pair = {"instruction": "a", "output": "b"}
    talk = {"messages": [{"role": USER, "content": "a"}, {"role": BOT, "content": "b"}]}
    files = [_lines(tmp_path, "a.jsonl", pair, {"text": "a"}), _lines(tmp_path, "b.jsonl", talk)]
    data = load_data(files)
    assert (len(data.rows), data.duplicates) == (3, 1)


def test_rows_shared_with_the_evaluation_are_counted(tmp_path: Path) -> None:
    """What is learned and evaluated on is counted, and kept on both sides."""
    learned, held = _texts(tmp_path, "a.jsonl", *"abc"), _texts(tmp_path, "b.jsonl", *"cdc")
    data = load_data([learned], evaluation=[held])
    assert [row.answer for row in data.evaluation] == list("cdc")
    assert [file.name for file in data.evaluation_files] == ["b.jsonl"]
    assert (data.shared, data.duplicates) == (2, 0)


def test_a_share_is_set_aside(tmp_path: Path) -> None:
    """It has the size that was asked for, follows the seed, and shares nothing with the rest."""
    path = _texts(tmp_path, "a.jsonl", *map(str, range(50)))
    data, again, other = (load_data([path], split=0.1, seed=seed) for seed in (1, 1, 2))
    assert (len(data.rows), len(data.evaluation)) == (45, 5)
    assert (data.shared, data.evaluation_files) == (0, ())
    assert data == again
    assert data.evaluation != other.evaluation
    assert [int(row.answer) for row in data.rows] == sorted(int(row.answer) for row in data.rows)


@given(texts=st.lists(st.sampled_from("abcdefgh"), min_size=2).filter(lambda t: len(set(t)) > 1))
def test_a_share_follows_what_the_rows_say(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The order of the rows is of no matter, and equal rows are on one side."""
    directory = tmp_path_factory.mktemp("share")

    def aside(name: str, texts: list[str]) -> list[str] | None:
        found = _load(_texts(directory, name, *texts), split=0.2)
        if not isinstance(found, Data):  # so many are equal that they are all of them
            assert "leaves no row to train on" in found
            return None
        assert found.shared == 0
        return sorted(row.answer for row in found.evaluation)

    assert aside("a.jsonl", texts) == aside("b.jsonl", texts[::-1])


def test_a_conversation_is_not_torn_apart(tmp_path: Path) -> None:
    """All turns of a conversation are set aside, or none: a later one holds those before it."""
    talks = [
        {
            "messages": [
                {"role": role, "content": f"{n}{role}{i}"} for i in (1, 2) for role in (USER, BOT)
            ]
        }
        for n in range(10)
    ]
    data = load_data([_lines(tmp_path, "talks.jsonl", *talks)], split=0.3)
    assert (len(data.rows), len(data.evaluation)) == (14, 6)
    assert {row.answer[0] for row in data.rows}.isdisjoint(row.answer[0] for row in data.evaluation)


def test_what_cannot_be_set_aside(tmp_path: Path) -> None:
    """No share, a share of one row, and a share beside a file of rows are refused."""
    one = _texts(tmp_path, "a.jsonl", "a")
    with pytest.raises(UsageError, match="leaves no row to train on"):
        load_data([one], split=0.5)
    with pytest.raises(UsageError, match="eval-split is 1; it is a share"):
        load_data([one], split=1)
    with pytest.raises(UsageError, match="exclude each other"):
        load_data([one], split=0.5, evaluation=[one])
