"""What is printed: never a control character that somebody else chose, and colours only when wanted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from modelstore.cli import output
from tests.builders import safetensors_bytes, values
from tests.cli.program import command, environment, run
from tests.models import write_model

RED = "\x1b[31mred\x07"
ESCAPED = "\\u001b[31mred\\u0007"


@pytest.fixture(scope="module")
def _hostile(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a version whose message, tensors, parameters and notes move the cursor."""
    place = tmp_path_factory.mktemp("hostile") / "place"
    shutil.copytree(_template, place)
    weights = safetensors_bytes({RED: values("F32", 4)}, {"about": RED})
    model = write_model(place / "three", files={"model.safetensors": weights})
    words = ("-m", RED, "--metric", f"{RED}=1", "--param", f"p={RED}", "--note", RED)
    more = ("--description", RED, "--author", RED, "--base-model", RED, "--activate")
    store = ("-C", place / "tuned_models")
    assert run(*store, "commit", model, *words, *more).code == 0
    assert run(*store, "set-active", "v1.2", "--expect", "v1.2", "-m", RED).code == 0
    return place


@pytest.fixture
def hostile(_hostile: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which holds that store; not to be changed."""
    monkeypatch.chdir(_hostile)
    return _hostile


@pytest.mark.parametrize(
    "words",
    [
        ("log",),
        ("log", "--oneline"),
        ("list",),
        ("show",),
        ("show", "--tensors"),
        ("show", f":::{RED}"),
        ("note", "v1.2"),
        ("active", "llama_1b", "--history"),
        ("diff", "v1.1", "v1.2"),
        ("verify", "v1.2"),
        ("du",),
        ("status",),
        ("show", f"v1.2:{RED}"),
        ("show", RED),
        ("log", "-M", RED),
        (RED,),
        ("log", f"--{RED}"),
        ("completion", RED),
        ("commit", RED),
        ("checkout", "v1.2", "--files", RED),
        ("alias", RED, "v1.2"),
        ("-C", RED, "log"),
    ],
)
def test_control_characters_are_printed_as_text(hostile: Path, words: tuple[str, ...]) -> None:
    """No output, data or error, human or JSON, holds a control character but the line break."""
    for flags in ((), ("--json",)):
        done = run(*words, *flags)
        assert done.code != 70
        assert not {c for c in done.out + done.err if ord(c) < 32 and c != "\n"}
        assert "\x9b" not in done.out + done.err


def test_they_can_still_be_read(hostile: Path) -> None:
    """What was escaped is there as an escape, and JSON gives it back as it was."""
    assert ESCAPED in run("log").out
    assert run("show", "--json").data("show")["message"] == RED


def test_a_file_name_that_moves_the_cursor_is_refused(place: Path) -> None:
    """Such a name is no file of a version, and the refusal shows it harmlessly."""
    write_model(place / "three", files={f"a{RED}.txt": b"x"})
    done = run("commit", "three")
    assert done.code == 2
    assert "\x1b" not in done.err


def test_json_is_ascii(place: Path) -> None:
    """Whatever a name holds, JSON is printable everywhere."""
    write_model(place / "three", step=2e-3)
    run("commit", "three", "-m", "größer \u202e\x9b")
    out = run("log", "--json").out
    assert out.isascii()
    assert json.loads(out)["data"][0]["message"] == "größer \u202e\x9b"


@pytest.mark.parametrize("words", [("log",), ("show", "v9.9"), ("nope",), ("list",)])
def test_no_colours_in_a_pipe(looked_at: Path, words: tuple[str, ...]) -> None:
    """What is not a terminal gets plain text."""
    done = run(*words)
    assert "\x1b" not in done.out + done.err


def _on_a_terminal(*words: str, **env: str) -> str:
    """Return what mstore writes to a terminal."""
    pty = pytest.importorskip("pty", reason="POSIX terminals")
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command(*words), stdout=follower, stderr=follower, env=environment(env)
    )
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 65536):
            shown += piece
    except OSError:
        pass  # how Linux says that the last writer has gone
    finally:
        process.wait(timeout=60)
        os.close(leader)
    return shown.decode()


def test_a_terminal_gets_colours_unless_no_color_is_set(looked_at: Path) -> None:
    """On a terminal the log and errors are coloured; NO_COLOR turns that off."""
    for words in (("log",), ("log", "v9.9"), ("list", "nobody")):
        assert "\x1b[3" in _on_a_terminal(*words, TERM="xterm-256color")
        assert "\x1b" not in _on_a_terminal(*words, TERM="xterm-256color", NO_COLOR="1")


def test_weights_are_not_poured_into_a_terminal(looked_at: Path) -> None:
    """`mstore show REF:model.safetensors` on a terminal is refused, with what to type instead."""
    shown = _on_a_terminal("show", "v1.0:model.safetensors", NO_COLOR="1")
    assert "this is a terminal" in shown
    assert "mstore show llama_1b@v1.0:model.safetensors > FILE" in shown
    assert "LlamaForCausalLM" in _on_a_terminal("show", "v1.0:config.json")


@pytest.mark.parametrize(
    ("number", "thing", "text"), [(0, "file", "0 files"), (1, "day", "1 day"), (2, "day", "2 days")]
)
def test_one_is_not_plural(number: int, thing: str, text: str) -> None:
    """One thing is one, all others are many."""
    assert output.count(number, thing) == text


def test_how_long_ago() -> None:
    """A time that is no time, or lies ahead, is shown as it is."""
    assert output.ago("2020-01-01T00:00:00Z").endswith(" days ago")
    assert output.ago("2020-01-01T00:00:00").endswith(" days ago")
    assert output.ago("yesterday") == "yesterday"
    assert output.ago("2999-01-01T00:00:00Z") == "2999-01-01T00:00:00Z"
