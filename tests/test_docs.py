"""The documents say what the program does: cli.md, json.md, and the commands that hints name."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

from modelstore.cli import COMMANDS, cli
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.init import init
from tests.cli.program import environment, run
from tests.models import write_model

ROOT = Path(__file__).resolve().parent.parent


# --- cli.md


def test_the_command_line_reference_is_up_to_date() -> None:
    """docs/cli.md is what the commands say now, however wide the terminal is."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/write_cli_reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        env=environment({"COLUMNS": "40", "MSTORE_MODEL": "other"}),
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_what_is_typed_in_the_documents_can_be_typed(page: str) -> None:
    """Every command of a session exists and takes the options it is given."""
    text = (ROOT / page).read_text(encoding="utf-8")
    typed = re.findall(r"^\$ mstore (.+)$", text, flags=re.MULTILINE)
    assert typed
    for line in typed:
        words = shlex.split(line)
        name, *words = words[2:] if words[0] == "-C" else words
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, line
        command.make_context(name, words, parent=click.Context(cli, **cli.context_settings))


# --- commands that messages name

PROSE = {"and", "can", "did", "does", "has", "is", "knows", "needs", "or", "reads", "wrote", "yet"}
"""What follows the name of the program where no command is meant."""


def _texts(path: Path) -> Iterator[str]:
    """Yield the strings of a source file that are no docstrings, f-strings as one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts: set[int] = set()
    texts: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            yield "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts[id(node)] = node.value
    yield from (text for node, text in texts.items() if node not in docstrings | parts)


def test_every_command_that_a_message_names_exists() -> None:
    """A hint is the next command to type, so it must be one."""
    unknown = [
        f"{path.relative_to(ROOT)}: mstore {word}"
        for folder in ("modelstore", "tuning")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in _texts(path)
        for word in re.findall(r"\bmstore ([a-z][a-z-]*)", text)
        if word not in COMMANDS and word not in PROSE
    ]
    assert unknown == []


# --- json.md

OWN = {"mstore train"}
"""Commands that a test of their own runs, because what they need is not always installed."""

TRAINING = (
    "trained",
    "training plan",
    "training file",
    "training estimate",
    "training sample",
    "preset",
    "training run",
    "replay",
    "replay change",
)
"""The tables of what these print."""


@dataclass
class Page:
    """What docs/json.md says.

    Attributes:
        records: for each type that is a table, its keys and their types; "+T" adds the keys of T.
        schemas: for each schema, the type of its data.
        commands: for each command, its schemas.
        examples: schema and JSON of each example.
    """

    records: dict[str, dict[str, str]] = field(default_factory=dict)
    schemas: dict[str, str] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    examples: list[tuple[str, str]] = field(default_factory=list)


def _page() -> Page:
    page = Page()
    text = (ROOT / "docs/json.md").read_text(encoding="utf-8")
    command = ""
    for section in re.split(r"^#{2,4} ", text, flags=re.MULTILINE)[1:]:
        title = section.split("\n", 1)[0]
        if title.startswith("mstore "):
            command = title
            page.commands[command] = []
        rows = re.findall(r"^\| ([a-z0-9_]+) \| ([^|]+) \|", section, flags=re.MULTILINE)
        if rows and rows[0] != ("key", "type"):
            raise AssertionError(f"the table of {title} has no head")
        if rows:
            more = re.search(r"^The keys of an? ([a-z ]+), and:", section, flags=re.MULTILINE)
            inherited = page.records[more.group(1)] if more else {}
            page.records[title] = {**inherited, **dict(rows[1:])}
        for schema, kind in re.findall(r"`mstore/([a-z-]+)/1`, data: ([a-z ]+)", section):
            page.schemas[schema] = kind.strip()
            page.commands[command].append(schema)
        for example in re.findall(r"^```json\n(.*?)\n```", section, flags=re.MULTILINE | re.DOTALL):
            if command:
                first, last = page.commands[command][0], page.commands[command][-1]
                page.examples.append((last if command == "mstore show" else first, example))
    return page


PAGE = _page()


def check(value: object, kind: str, where: str, seen: set[str]) -> None:
    """Fail unless ``value`` is of the documented type; note the optional keys that were seen."""
    kind = kind.split(", only ")[0].strip()
    if kind.startswith("list of "):
        assert isinstance(value, list), where
        for one in value:
            check(one, kind.removeprefix("list of "), f"{where}[]", seen)
    elif kind.startswith("map of "):
        assert isinstance(value, dict), where
        for name, one in value.items():
            check(one, kind.removeprefix("map of "), f"{where}.{name}", seen)
    elif value is None and kind.endswith(" or null"):
        return
    elif kind.removesuffix(" or null") in PAGE.records:
        _check_record(value, kind.removesuffix(" or null"), where, seen)
    else:
        assert _is_plain(value, kind.removesuffix(" or null")), f"{where}: {value!r} is no {kind}"


def _check_record(value: object, kind: str, where: str, seen: set[str]) -> None:
    assert isinstance(value, dict), where
    keys = PAGE.records[kind]
    undocumented = set(value) - set(keys)
    assert not undocumented, f"{where} has keys that docs/json.md does not: {undocumented}"
    missing = {key for key in set(keys) - set(value) if ", only " not in keys[key]}
    assert not missing, f"{where} lacks keys that docs/json.md has: {missing}"
    for key, one in value.items():
        seen.add(f"{kind}.{key}")
        check(one, keys[key], f"{where}.{key}", seen)


def _is_plain(value: object, kind: str) -> bool:
    if kind in {"bytes", "count"}:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in PATTERNS:
        return isinstance(value, str) and re.fullmatch(PATTERNS[kind], value, re.DOTALL) is not None
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "object":
        return isinstance(value, dict)
    return kind == "value" and (value is None or isinstance(value, str | int | float))


PATTERNS: Mapping[str, str] = {
    "text": r".*",
    "path": r".+",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "digest": r"[0-9a-f]{64}",
    "ref": r"[\w.-]+@v\d+\.\d+",
}

DIFFERENCES = ("diff", "v1.0", "v1.1")
SEEN: tuple[tuple[str, ...], ...] = (
    ("init", "other"),
    ("use", "llama_1b"),
    ("log",),
    ("list",),
    ("show", "v1.1", "--tensors"),
    ("show", "v0.9"),
    ("info", "v1.1"),
    ("show", "v1.1:config.json"),
    ("show", "v1.1:::model.layers.0.norm.weight"),
    ("active",),
    ("active", "--history"),
    ("set-active", "v1.1"),
    ("rollback",),
    ("alias", "prod", "v1.1"),
    ("alias",),
    ("alias", "-d", "prod"),
    ("note", "v1.1", "good"),
    ("checkout", "v1.1"),
    ("path", "v1.1"),
    ("status",),
    DIFFERENCES,
    (*DIFFERENCES, "--files"),
    ("verify",),
    ("fsck",),
    ("doctor",),
    ("backup", "kept"),
    ("backup", "kept", "-n"),
    ("backup", "half", "-C", "lossy"),
    ("backup", "list", "half"),
    ("backup", "check", "half"),
    ("backup", "check", "gone"),
    ("backup", "status", "kept"),
    ("backup", "prune", "kept", "--keep-last", "1"),
    ("restore", "kept", "back", "llama_1b@v1.0"),
    ("restore", "kept", "back", "-n"),
    ("remote", "add", "origin", "there"),
    ("remote", "list"),
    ("push",),
    ("fetch",),
    ("status",),
    ("pull",),
    ("clone", "there", "cloned"),
    ("remote", "rm", "origin"),
    ("rm", "v1.1", "-n"),
    ("gc", "--keep-last", "1", "-n"),
    ("gc",),
    ("du",),
    ("repack",),
    ("commit", "two"),
    ("rm", "v1.1"),
    ("list", "--removed"),
    ("undelete", "v1.1"),
    ("adopt", "old", "-n"),
    ("adopt", "old"),
    ("export", "llama_1b@v1.1", "--to", "hf-cache", "-o", "cache"),
    ("import", "cache/models--mstore--llama_1b", "-M", "again", "-n"),
    ("import", "cache/models--mstore--llama_1b", "-M", "again"),
)
"""Commands which together show every documented key."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a store of two versions, one of them missing, and an old directory."""
    place = tmp_path_factory.mktemp("json")
    store = init(place / "tuned_models").store
    model = ModelName("llama_1b")
    values = CommitOptions(parameters={"epochs": 1}, metrics={"loss": 2.5})
    data = [{"name": "rows.jsonl", "size": 1, "rows": 1, "blake3": "0" * 64}]
    tuned = CommitOptions(metrics={"loss": 1.5}, data=data, environment={"python": "3.12"})
    commit(store, write_model(place / "one"), model, values)
    commit(store, write_model(place / "two", step=1e-3), model, tuned)
    _old(place / "old" / "llama_1b")
    registered = {"seq": 9, "path": "llama_1b/v0.9", "created_at": "2026-01-01T00:00:00Z"}
    change = {"v0.9": {**registered, "mood": "unknown"}}
    store.change(model, lambda _: _change(change))
    run("-C", store.root, "checkout", "v1.0")
    (store.root / "llama_1b/v1.0/config.json").write_text("{}")
    (store.root / "llama_1b/v1.1/model_info.json").write_text("{}")  # fsck has something to find
    _backups(place)
    return place


def _backups(place: Path) -> None:
    """Write a store that has lost a blob, and a destination of backups that has lost all frames."""
    lossy = init(place / "lossy").store
    commit(lossy, write_model(place / "three", seed=3), ModelName("llama_1b"), CommitOptions())
    run("-C", lossy.root, "backup", place / "gone")
    for path in (place / "gone" / "blobs").rglob("*/*"):
        path.unlink()
    manifest = lossy.manifest(
        ModelName("llama_1b"), lossy.state(ModelName("llama_1b")).entries()[0]
    )
    lossy.blobs.path(min(manifest.blobs())).unlink()


def _change(versions: Mapping[str, Mapping[str, Any]]) -> Any:
    from modelstore.state import Change

    return Change("adopt", versions=versions)


def _old(model: Path) -> None:
    """Write what another tool left: a version, one that is registered only, and a stray file."""
    write_model(model / "v1.0")
    write_model(model / "v1.1", files={"con.txt": b"a name that some systems cannot write"})
    versions = {name: {"is_active": name == "v1.0"} for name in ("v1.0", "v1.1", "v1.2")}
    registry = {"model_type": "llama_1b", "active_version": "v1.0", "versions": versions}
    (model / "model_registry.json").write_text(json.dumps(registry))
    (model.parent / "stray").mkdir()


def _envelope(words: Sequence[str]) -> dict[str, Any]:
    done = run(*words, "--json")
    assert done.code in (0, 1, 3), done.err
    value: dict[str, Any] = json.loads(done.out)
    assert set(value) == {"schema", "data"}
    return value


def test_every_key_is_documented_and_every_documented_key_is_there(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command prints exactly the keys of its tables, with the types they give."""
    monkeypatch.chdir(place)
    seen: set[str] = set()
    printed: dict[str, set[str]] = {}
    for words in SEEN:
        value = _envelope(words)
        schema = value["schema"].removeprefix("mstore/").removesuffix("/1")
        printed.setdefault("mstore " + words[0].replace("info", "show"), set()).add(schema)
        check(value["data"], PAGE.schemas[schema], " ".join(words), seen)
    run_elsewhere = {f"{kind}.{key}" for kind in TRAINING for key in PAGE.records[kind]}
    documented = {f"{kind}.{key}" for kind, keys in PAGE.records.items() for key in keys}
    assert documented - seen - run_elsewhere == set()
    documented_schemas = {c: set(s) for c, s in PAGE.commands.items() if c not in OWN}
    assert printed == documented_schemas


def test_every_command_with_json_is_documented() -> None:
    """A command that takes --json has its section, and no other has one."""
    context = cli.make_context("mstore", [], resilient_parsing=True)
    takes = set()
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        further = command.commands.values() if isinstance(command, click.Group) else ()
        options = [option for one in (command, *further) for option in one.params]
        if any("--json" in option.opts for option in options):
            takes.add(f"mstore {name}")
    assert takes - {"mstore info"} == set(PAGE.commands)


@pytest.mark.parametrize(("schema", "example"), PAGE.examples)
def test_examples_are_what_they_illustrate(schema: str, example: str) -> None:
    """Every example of data has the keys and types of its tables."""
    check(json.loads(example), PAGE.schemas[schema], schema, set())


def test_the_error_envelope_is_as_documented() -> None:
    """The example of an error has the keys that errors have."""
    text = (ROOT / "docs/json.md").read_text(encoding="utf-8")
    example = re.search(r'^\{"schema": "mstore/error/1".*$', text, flags=re.MULTILINE)
    assert example is not None
    error = run("show", "a b", "--json", "-C", "/nowhere").error()
    assert set(json.loads(example.group())["data"]) == set(error)


def test_train_prints_what_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run prints the keys of its table."""
    pytest.importorskip("trl")
    from tests.training.tiny import make_model

    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "tiny")
    (tmp_path / "rows.jsonl").write_text('{"text": "some text"}\n')
    run("init")
    words = ("--data", "rows.jsonl", "--base", "tiny", "--max-steps", "1", "--device", "cpu")
    (tmp_path / "tuned_models/.mstore/runs/20260131T120000Z-abcdef").mkdir(parents=True)
    seen: set[str] = set()
    for more in (
        ("llama_1b", *words),
        ("llama_1b", *words, "--dry-run"),
        ("--list-presets",),
        ("--list-runs",),
        ("--discard", "2026"),
        ("--replay", "llama_1b@v1.0"),
    ):
        value = _envelope(("train", *more))
        schema = value["schema"].removeprefix("mstore/").removesuffix("/1")
        check(value["data"], PAGE.schemas[schema], " ".join(more), seen)
    unlike = {f"replay change.{key}" for key in PAGE.records["replay change"]}
    assert seen | unlike == {f"{kind}.{key}" for kind in TRAINING for key in PAGE.records[kind]}
