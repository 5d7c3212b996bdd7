"""Every way in which a command fails: its exit code, its sentence, and its hint."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from modelstore import locks
from modelstore.cli import COMMANDS, failures
from modelstore.errors import StoreError
from modelstore.names import ModelName
from modelstore.state import Change
from modelstore.store import Store
from tests.cli.program import Ran, run
from tests.models import write_model

NEEDED = {
    "commit": ("one",),
    "train": ("llama_1b", "--data", "rows.jsonl"),
    "set-active": ("v1.0",),
    "note": ("v1.0", "text"),
    "rm": ("v1.0",),
    "undelete": ("v1.0",),
    "diff": ("v1.0",),
    "completion": ("bash",),
    "backup": ("there",),
    "remote": ("list",),
    "clone": ("there",),
    "restore": ("there", "here"),
    "export": ("v1.0", "--to", "hf-cache"),
    "import": ("hf:owner/name",),
}
"""The arguments that a command cannot do without."""

STORELESS = {"init", "completion", "help", "doctor", "clone", "restore"}
TAKES_A_REF = (
    *("log", "show", "set-active", "note", "checkout", "path", "diff", "verify", "du"),
    *("rm", "undelete", "export"),
)
TAKES_A_MODEL = ("use", "list", "active", "rollback", "status")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in STORELESS])
def test_there_is_no_store(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 10, with the place that was looked at and how to make a store."""
    monkeypatch.chdir(tmp_path)
    done = run(name, *NEEDED.get(name, ()))
    assert done.code == 10
    assert str(tmp_path) in done.err
    assert "Hint: " in done.err


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "help"])
def test_a_wrong_option(name: str) -> None:
    """Exit code 2, with the command's usage and where its help is."""
    done = run(name, "--no-such-option")
    assert done.code == 2
    assert done.err.startswith(f"Usage: mstore {name} ")
    assert done.err.endswith(f"Hint: run: mstore {name} --help\n")


@pytest.mark.parametrize("name", TAKES_A_REF)
@pytest.mark.parametrize("ref", ["v9.9", "nope", "llama_1b@deadbeef", "nobody@v1.0"])
def test_nothing_has_that_name(looked_at: Path, name: str, ref: str) -> None:
    """Exit code 4, naming what was asked for."""
    done = run(name, ref, *NEEDED.get(name, ())[1:])
    assert done.code == 4
    assert ref.rpartition("@")[2] in done.err or "nobody" in done.err
    assert "Hint: " in done.err


@pytest.mark.parametrize("name", TAKES_A_MODEL)
def test_no_model_has_that_name(looked_at: Path, name: str) -> None:
    """Exit code 4 for a model that is not there, and 2 for what cannot be one."""
    done = run(name, "nobody")
    assert done.code == 4
    assert "'nobody'" in done.err
    assert run(name, "../up").code == 2


@pytest.fixture
def twins(place: Path) -> Store:
    """A store in which a second model has the same version numbers, and no default model."""
    assert run("commit", "two", "-M", "other").code == 0
    store = Store(place / "tuned_models")
    (store.meta / "config.json").unlink()
    return store


@pytest.mark.parametrize("name", TAKES_A_REF)
def test_a_bare_ref_fits_two_models(twins: Store, name: str) -> None:
    """Exit code 4, with both full refs as candidates."""
    done = run(name, "v1.0", *NEEDED.get(name, ())[1:])
    assert done.code == 4
    assert "llama_1b@v1.0, other@v1.0" in done.err
    assert "Hint: say llama_1b@v1.0, or: mstore use MODEL" in done.err


def test_it_is_not_said_which_model(twins: Store) -> None:
    """A command about one model lists those there are."""
    done = run("rollback")
    assert done.code == 4
    assert "which model? The store has llama_1b, other" in done.err


def test_a_digest_prefix_fits_two_versions(place: Path) -> None:
    """Exit code 4, with both versions and longer prefixes."""
    store = Store(place / "tuned_models")
    ids = ("abcdef1" + "0" * 57, "abcdef2" + "0" * 57)
    entries = {f"v3.{n}": {"id": digest, "seq": 9 + n} for n, digest in enumerate(ids)}
    store.change(ModelName("llama_1b"), lambda _: Change("commit", versions=entries))
    done = run("show", "abcdef")
    assert done.code == 4
    assert "fits v3.0 (abcdef100000), v3.1 (abcdef200000)" in done.err


def test_what_exists_is_not_made_again(place: Path) -> None:
    """Exit code 5 for a number that is taken, and for a store within a store."""
    write_model(place / "three", step=3e-3)
    done = run("commit", "three", "--version", "v1.0")
    assert done.code == 5
    assert "llama_1b@v1.0 exists already" in done.err
    assert run("init", "tuned_models/inner").code == 5


def test_local_changes_are_not_overwritten(place: Path) -> None:
    """Exit code 5, naming the files, for checkout, path and release alike."""
    assert run("checkout", "v1.0").code == 0
    home = place / "tuned_models/llama_1b/v1.0"
    (home / "config.json").write_text("mine")
    for words in (("checkout", "v1.0"), ("path", "v1.0"), ("checkout", "v1.0", "--release")):
        done = run(*words)
        assert done.code == 5
        assert "config.json" in done.err
    assert (home / "config.json").read_text() == "mine"


def test_there_is_nothing_to_commit_from(place: Path) -> None:
    """Exit code 4 for a path that does not exist; 2 for an empty directory and for no model."""
    assert run("commit", "nowhere").code == 4
    (place / "empty").mkdir()
    assert run("commit", "empty").code == 2
    (place / "tuned_models/.mstore/config.json").unlink()
    done = run("commit", "one")
    assert done.code == 2
    assert "Hint: say: mstore commit one -M llama_1b" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("commit", "one", "--metric", "loss"),
        ("commit", "one", "--version", "x"),
        ("commit", "one", "-M", "a/b"),
        ("alias", "v1.0", "v1.1"),
        ("alias", "latest", "v1.1"),
        ("show", "a b"),
        ("log", "-n", "0"),
        ("--lock-timeout", "-1", "log"),
        ("completion", "tcsh"),
        ("rollback", "--steps", "0"),
    ],
)
def test_the_request_is_wrong(looked_at: Path, words: tuple[str, ...]) -> None:
    """Exit code 2, on one line that is no traceback."""
    done = run(*words)
    assert done.code == 2
    assert "Error: " in done.err
    assert done.out == ""


def _frames(place: Path) -> list[Path]:
    return [path for path in (place / "tuned_models/.mstore/blobs").rglob("*") if path.is_file()]


def _largest(place: Path) -> Path:
    return max(_frames(place), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    "words",
    [("checkout", "v1.0", "-o", "out"), ("path", "v1.0"), ("show", "v1.0:model.safetensors")],
)
def test_a_blob_is_damaged(place: Path, words: tuple[str, ...]) -> None:
    """Exit code 6, naming the blob, and nothing is written; verify exits with 1 and lists it."""
    frame = _largest(place)
    data = bytearray(frame.read_bytes())
    data[-1] ^= 1
    frame.chmod(0o644)
    frame.write_bytes(data)
    done = run(*words)
    assert done.code == 6
    assert "damaged" in done.err
    assert not list(place.glob("out/*"))
    assert run("verify", "v1.0").code == 1


def test_a_blob_is_missing(place: Path) -> None:
    """Exit code 4: the version is known, its content is not here."""
    _largest(place).unlink()
    done = run("checkout", "v1.0", "-o", "out")
    assert done.code == 4
    assert "is not in the store" in done.err
    assert run("verify", "v1.0").code == 1


def test_the_files_of_a_version_never_were_here(place: Path) -> None:
    """A version that is registered without content is listed; what needs the content says so."""
    store = Store(place / "tuned_models")
    change = Change("adopt", versions={"v0.9": {"seq": 9, "path": "llama_1b/v0.9"}})
    store.change(ModelName("llama_1b"), lambda _: change)
    assert "llama_1b@v0.9  missing" in run("list").out
    assert run("show", "v0.9").code == 0
    for words in (("checkout", "v0.9"), ("path", "v0.9"), ("diff", "v0.9", "v1.0")):
        done = run(*words)
        assert done.code == 4
        assert "its files are missing" in done.err
    assert run("set-active", "v0.9").code == 5


def test_another_process_holds_the_lock(looked_at: Path) -> None:
    """Exit code 11, with who holds it and for how long we waited."""
    with locks.locked(looked_at / "tuned_models/.mstore/locks/store.lock"):
        for words in (("note", "v1.0", "x"), ("set-active", "v1.1"), ("alias", "prod", "v1.1")):
            done = run("--lock-timeout", "0.05", *words)
            assert done.code == 11
            assert "'store.lock' is held by process" in done.err
            assert "waited 0.05 s" in done.err
        assert run("log").code == 0


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in STORELESS])
def test_the_store_is_newer(place: Path, name: str) -> None:
    """Exit code 13, with the version that it needs."""
    path = place / "tuned_models/.mstore/format.json"
    path.write_text(json.dumps({"format": 99, "features": [], "mstore": "7.0"}))
    done = run(name, *NEEDED.get(name, ()))
    assert done.code == 13
    assert "needs mstore 7.0" in done.err


def test_a_registry_cannot_be_read(place: Path) -> None:
    """A directory in a registry's place is an error that names it, not a traceback."""
    view = place / "tuned_models/llama_1b/model_registry.json"
    view.unlink()
    view.mkdir()
    done = run("log")
    assert done.code == 1
    assert f"cannot read '{view}': Is a directory" in done.err


def test_an_edited_registry_is_noticed_and_not_used(place: Path) -> None:
    """Readers warn and answer from the records."""
    view = place / "tuned_models/llama_1b/model_registry.json"
    view.write_text(view.read_text().replace('"v1.0"', '"v7.0"'))
    done = run("log", "--oneline")
    assert done.code == 0
    assert "v7.0" not in done.out
    assert "was edited, and is not used" in done.err


def test_a_damaged_setting_is_named(place: Path) -> None:
    """A config.json that is no JSON stops no command, and is said."""
    (place / "tuned_models/.mstore/config.json").write_text("{")
    done = run("use")
    assert done.code == 0
    assert "config.json" in done.err
    assert "mstore fsck --repair" in done.err


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (("show", "v9.9"), 4, "NotFoundError"),
        (("show", "a b"), 2, "BadNameError"),
        (("log", "--nope"), 2, "UsageError"),
        (("nope",), 2, "UsageError"),
        (("commit", "one", "--version", "v1.0", "--allow-empty"), 5, "ConflictError"),
    ],
)
def test_errors_as_json(place: Path, words: tuple[str, ...], code: int, kind: str) -> None:
    """With --json an error is an envelope on stderr, and stdout stays empty."""
    done = run(*words, "--json")
    assert done.code == code
    error = done.error()
    assert set(error) == {"kind", "exit", "message", "hint"}
    assert error["kind"] == kind
    assert error["message"]


def _fail(error: BaseException, *words: str) -> Ran:
    """Run a command that raises."""

    @click.command(context_settings={"ignore_unknown_options": True})
    @click.argument("_", nargs=-1)
    def command(_: tuple[str, ...]) -> None:
        raise error

    return _ended(command, words)


def _ended(command: click.Command, words: tuple[str, ...]) -> Ran:
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        failures.run(command, list(words))
    return Ran(int(left.value.code or 0), out.getvalue(), err.getvalue())


def test_a_bug_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 70 without a traceback; MSTORE_DEBUG shows it."""
    done = _fail(ZeroDivisionError("a \x1b[31mred\n zero"))
    assert done.code == 70
    assert done.err.startswith(
        "Error: this is a bug in mstore (ZeroDivisionError: a \\u001b[31mred"
    )
    assert "MSTORE_DEBUG=1" in done.err
    assert "Traceback" not in done.err
    assert _fail(ZeroDivisionError(), "--json").error()["kind"] == "InternalError"
    monkeypatch.setenv("MSTORE_DEBUG", "1")
    assert "Traceback" in _fail(ZeroDivisionError()).err


def test_every_kind_of_error_ends_with_its_own_code() -> None:
    """The exit code of the tree in errors.py is that of the process."""
    kinds = {StoreError}
    while more := {sub for kind in kinds for sub in kind.__subclasses__()} - kinds:
        kinds |= more
    for kind in kinds:
        done = _fail(kind("it went wrong", "mstore log"))
        assert (done.code, done.err) == (kind.exit_code, "Error: it went wrong\nHint: mstore log\n")


def test_an_interrupt_is_not_an_error_of_ours() -> None:
    """Exit code 130, in one word, or as JSON."""
    assert _fail(KeyboardInterrupt()) == Ran(130, "", "Error: interrupted\n")
    assert _fail(KeyboardInterrupt(), "--json").error()["kind"] == "Interrupted"
