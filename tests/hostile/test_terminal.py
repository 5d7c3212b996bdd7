"""Text that would command a terminal, and registries of odd shapes: shown, escaped, and no bug."""

from __future__ import annotations

import json
import shutil
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from modelstore.cli import output
from modelstore.names import printable
from modelstore.ops.commit import CommitOptions, commit
from modelstore.state import Change
from modelstore.store import Store
from modelstore.view import check_versions, render
from tests.builders import safetensors_bytes, values
from tests.cli.program import Ran, run
from tests.hostile.forged import MODEL
from tests.models import write_model

EVIL = "x\x1b]0;title\x07\x1b[2J\x9b31m\rfake\x08\u202egnp.exe\u2066\u2028\u200b\x00[/red][link=x]"
HIDDEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def is_harmless(text: str) -> bool:
    """Tell whether a terminal does nothing with ``text`` but to show it."""
    return not any(unicodedata.category(c) in HIDDEN and c != "\n" for c in text)


@pytest.fixture
def evil(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two versions with evil text wherever there may be any, and their directory."""
    name = EVIL.replace("\0", "")
    tensors = {name: values("F32", 2), "w": values("F32", 3)}
    files = {"README.md": EVIL, "config.json": json.dumps({EVIL: EVIL})}
    for seed in (1, 2):
        tensors["w"] = values("F32", 3, seed=seed)
        files["model.safetensors"] = safetensors_bytes(tensors)  # type: ignore[assignment]
        model = write_model(tmp_path / "in", files=files)
        options = CommitOptions(
            message=EVIL,
            note=EVIL,
            author=EVIL,
            description=EVIL,
            base_model=EVIL,
            parameters={EVIL: EVIL},
            metrics={EVIL: EVIL},
            data=[{EVIL: EVIL}],
            environment={EVIL: EVIL},
            extra={EVIL: EVIL},
        )
        commit(store, model, MODEL, options)
    monkeypatch.chdir(store.root)
    return model


READING = [
    ("log",),
    ("log", "--oneline"),
    ("log", "--graph"),
    ("list",),
    ("show", "m@v1.1"),
    ("show", "m@v1.1", "--tensors"),
    ("show", "m@v1.1:model.safetensors::w"),
    ("diff", "m@v1.0", "m@v1.1"),
    ("status",),
    ("verify", "m@v1.1"),
    ("active",),
    ("active", "m", "--history"),
    ("du",),
    ("fsck",),
    ("doctor",),
    ("gc", "--dry-run"),
]
FAILING = [
    ("show", f"m@v1.1:{EVIL}"),
    ("show", f"m@v1.1:::{EVIL}"),
    ("show", f"m@{EVIL}"),
    ("checkout", EVIL),
    ("alias", EVIL, "m@v1.0"),
    ("commit", f"/tmp/{EVIL}".replace("\0", ""), "-m", "x"),
    ("commit", ".", "-M", EVIL),
    ("log", f"--{EVIL}"),
    (EVIL,),
    ("-C", EVIL.replace("\0", ""), "log"),
    ("checkout", "m@v1.0", "--files", EVIL),
    ("set-active", "m@v1.0", "--expect", EVIL),
]


def check(ran: Ran, words: tuple[str, ...]) -> None:
    """Check that a run was no bug and commanded no terminal."""
    assert ran.code != 70, (words, ran.err)
    assert is_harmless(ran.out + ran.err), (words, ran)


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_what_reports_escapes(evil: Path, words: tuple[str, ...]) -> None:
    """Names, messages, notes and keys are shown escaped; --json has them as JSON escapes."""
    ran = run(*words)
    check(ran, words)
    assert ran.code in (0, 1)
    machine = run(*words, "--json")
    assert machine.out.isascii()
    assert machine.code == ran.code
    json.loads(machine.out)


def test_what_is_shown_is_all_of_it(evil: Path) -> None:
    """Escaping leaves nothing out: the whole text can be read."""
    assert printable(EVIL.splitlines()[0]) in run("show", "m@v1.1").out
    assert "\\u202e" in run("log").out
    name = json.loads(run("show", "m@v1.1", "--tensors", "--json").out)["data"]["tensors"]
    assert EVIL.replace("\0", "") in {tensor["name"] for tensor in name}


@pytest.mark.parametrize("words", FAILING, ids=lambda words: repr(words[0])[:10])
def test_errors_escape(evil: Path, words: tuple[str, ...]) -> None:
    """What a command was given is named in the error without being obeyed."""
    if any("\0" in word for word in words[:1]):
        words = tuple(word.replace("\0", "") for word in words)
    ran = run(*words)
    check(ran, words)
    assert ran.code != 0


def test_changing_commands_escape(evil: Path) -> None:
    """So do the commands that change something, where they say what they did."""
    config = evil / "config.json"
    config.write_text(json.dumps({"other": EVIL}))
    (evil / "broken.safetensors").write_bytes(b"\xff" * 100)
    for words in (
        ("commit", str(evil), "-M", "m", "-m", EVIL, "--note", EVIL, "--metric", f"{EVIL}=1"),
        ("note", "m@v1.0", EVIL),
        ("set-active", "m@v1.1", "-m", EVIL),
        ("checkout", "m@v1.1"),
        ("checkout", "m@v1.1", "--release"),
    ):
        words = tuple(word.replace("\0", "") for word in words)
        check(run(*words), words)


def test_a_file_shown_on_a_terminal_is_escaped(
    evil: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A README is text for people: on a terminal it is shown, elsewhere it is copied."""
    output.say_text("a\tb\n\x1b[2Jc\r\n")
    assert capsys.readouterr().out == "a\tb\n\\u001b[2Jc\\u000d\n"
    assert run("show", "m@v1.1:README.md").out == EVIL


SHAPES: list[Any] = [
    *(None, True, 0, -1, 1e308, 10**30, "", "x", EVIL, [], [1], {}, {"a": [{"b": None}]}),
    {"logical": "x", "stored": None, "parameters": "many", "v1.0": 1},
    *("v1.0", "2026-13-45T99:99:99Z", "0000-01-01T00:00:00+99:99", ["v1.0"], {"": ""}),
]
KEYS = [
    *(
        "created_at",
        "message",
        "notes",
        "sizes",
        "metrics",
        "training_parameters",
        "author",
        "path",
    ),
    *("description", "generated", "base_model", "version", "parents", "seq", "id", "is_active"),
]


def _odd_entries(good: dict[str, Any]) -> dict[str, Any]:
    pairs = [(key, shape) for key in KEYS for shape in SHAPES]
    return {f"v2.{n}": {**good, key: shape} for n, (key, shape) in enumerate(pairs)}


def _accepted(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that a registry may have; the others make it a damaged one."""
    kept = {}
    for name, entry in entries.items():
        with suppress(TypeError, ValueError, AttributeError):
            check_versions({name: entry})
            kept[name] = entry
    return kept


@pytest.mark.parametrize("where", ["record", "view"])
def test_registries_of_odd_shapes_are_no_bugs(evil: Path, where: str) -> None:
    """Values of any type in a registry with right checksums are shown."""
    store = Store(Path.cwd())
    state = store.state(MODEL)
    good = dict(state.document["versions"]["v1.1"])
    odd = _accepted(_odd_entries(good))
    assert len(odd) > len(_odd_entries(good)) // 2
    if where == "record":
        store.change(MODEL, lambda _: Change("adopt", odd))
    else:  # a clone: the view is all there is
        versions = {**state.document["versions"], **odd}
        document = {**state.document, "versions": versions, "description": [1], "defaults": "x"}
        (store.root / MODEL / "model_registry.json").write_bytes(render(document))
        shutil.rmtree(store.meta / "refs")
    for words in (*READING, ("log", "--json"), ("list", "--json")):
        check(run(*words), words)
    for name in list(odd)[::7]:
        check(run("show", f"m@{name}"), ("show", name))
        check(run("verify", f"m@{name}"), ("verify", name))
