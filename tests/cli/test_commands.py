"""Every command as a person types it."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import pytest

from modelstore.cli import COMMANDS, cli
from modelstore.names import ModelName
from modelstore.state import Change
from modelstore.store import Store
from tests.cli.program import run
from tests.models import files_of, write_model


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_their_help_says(name: str) -> None:
    """A command's line in the help of mstore is the first sentence of its own."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert str(command.help).split("\n")[0].removesuffix(".") == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_comes_in_both_ways(name: str) -> None:
    """`mstore help X` is `mstore X --help`, and -h."""
    said = run(name, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: mstore {name}")
    assert run("help", name) == said
    assert run(name, "-h") == said


def test_mstore_alone_shows_its_help() -> None:
    """Without a command the help is shown, with all commands in it."""
    alone = run()
    assert alone.code == 2
    assert "Commands:" in alone.err
    assert run("help").out == run("--help").out
    assert all(f"\n  {name} " in run("help").out for name in COMMANDS)


def test_the_version() -> None:
    """`mstore --version` names the program."""
    assert run("-V").out.startswith("mstore")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("comit", "commit"), ("ls", "list"), ("add", "commit"), ("stauts", "status")],
)
def test_a_mistyped_command_is_guessed(typed: str, meant: str) -> None:
    """A command that does not exist is answered with the one that was probably meant."""
    done = run(typed)
    assert done.code == 2
    assert f"Did you mean {meant!r}?" in done.err


def test_init_makes_a_store_and_does_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Init makes ./tuned_models with its two lines; again it changes nothing and says so."""
    monkeypatch.chdir(tmp_path)
    first = run("init")
    assert first.code == 0
    assert first.out.startswith("Made a store at tuned_models\n  llama_1b: llama3.2:1b\n")
    before = files_of(tmp_path)
    assert run("init").out.startswith("There is a store already at tuned_models")
    assert files_of(tmp_path) == before


def test_commit_says_what_it_made_and_what_it_cost(place: Path) -> None:
    """A commit names the version, and how much of it is new."""
    write_model(place / "three", step=2e-3, files={"checkpoint-5/optimizer.pt": b"x"})
    done = run("commit", "three", "-m", "why", "--metric", "loss=1.25", "--activate")
    assert done.code == 0
    assert done.out.startswith("llama_1b@v1.2  ")
    assert ", ACTIVE\n  3 files, " in done.out
    assert "skipped: checkpoint-5/" in done.err
    assert "no message" not in done.err
    assert run("commit", "three").out == "Nothing to commit: the files are those of llama_1b@v1.2\n"


def test_commit_without_a_message_works_and_says_how_to_add_one(place: Path) -> None:
    """Scripts need no message; people are told how to say why afterwards."""
    write_model(place / "three", step=2e-3)
    done = run("commit", "three")
    assert done.code == 0
    assert "mstore note llama_1b@v1.2 TEXT" in done.err
    write_model(place / "three", step=3e-3)
    assert run("commit", "three", "-q").err == ""


def test_log_is_newest_first(looked_at: Path) -> None:
    """The long form has one paragraph per version, the short one a line."""
    long = run("log").out
    assert long.index("version llama_1b@v1.1\n") < long.index("version llama_1b@v1.0 (ACTIVE)\n")
    assert "\n    the base\n\n    as it was\n" in long
    assert not long.endswith("\n\n")
    lines = run("log", "--oneline").out.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "llama_1b@v1.1 tuned",
        "llama_1b@v1.0 (ACTIVE) the base",
    ]
    assert [line[:2] for line in run("log", "--graph").out.splitlines()] == ["* ", "* "]
    assert len(run("log", "-n", 1, "--oneline").out.splitlines()) == 1
    assert len(run("log", "v1.0", "--oneline").out.splitlines()) == 1


def test_the_graph_draws_siblings_apart(place: Path) -> None:
    """Two fine-tunes of one base are no chain."""
    write_model(place / "three", step=2e-3)
    assert run("commit", "three", "--parent", "v1.0", "-m", "sibling").code == 0
    lines = run("log", "--graph").out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["*", lines[0].split()[1]],
        ["|", "*"],
        ["|/"],
        ["*", lines[3].split()[1]],
    ]


def test_a_version_that_does_not_say_when_has_no_date(place: Path) -> None:
    """A registered version without files leaves the line out."""
    change = Change("adopt", versions={"v0.9": {"seq": 9}})
    Store(place / "tuned_models").change(ModelName("llama_1b"), lambda _: change)
    first = run("log").out.split("version ")[1]
    assert "missing" in first
    assert "date" not in first


def test_list_marks_the_active_version(looked_at: Path) -> None:
    """The table has a header, a star on ACTIVE, and says which lines are still empty."""
    lines = run("list").out.splitlines()
    assert lines[0].split() == ["VERSION", "ID", "SIZE", "STORED", "CREATED", "LOSS"]
    assert [line[0] for line in lines[1:3]] == [" ", "*"]
    assert lines[3] == "llama_8b: no versions yet (base qwen3:8b)"


def test_show_a_version_a_file_and_a_tensor(looked_at: Path) -> None:
    """Show tells about a version, prints a file as it is, and describes a tensor."""
    assert "model.safetensors" in run("show").out
    assert "model.layers.0.norm.weight  F32  16 " in run("show", "v1.1", "--tensors").out
    assert (
        run("show", "v1.1:config.json").out.encode() == (looked_at / "two/config.json").read_bytes()
    )
    for ref in (
        "v1.1:model.safetensors::model.layers.0.norm.weight",
        "v1.1:::model.layers.0.norm.weight",
    ):
        assert "shape   16\n" in run("show", ref).out
    assert run("info", "v1.1").out == run("show", "v1.1").out


def test_active_moves_and_steps_back(place: Path) -> None:
    """Set-active, its compare-and-swap, `-`, rollback and the history of it all."""
    assert run("active").out == "llama_1b@v1.0\n"
    assert run("set-active", "v1.1").out == "ACTIVE of llama_1b is now v1.1 (was v1.0)\n"
    assert run("set-active", "v1.1").out == "llama_1b@v1.1 is ACTIVE already\n"
    assert run("set-active", "v1.0", "--expect", "v1.1").code == 0
    assert run("set-active", "v1.0", "--expect", "v1.1").code == 5
    assert run("set-active", "-").out == "ACTIVE of llama_1b is now v1.1 (was v1.0)\n"
    back = run("rollback")
    assert back.out == "ACTIVE of llama_1b is now v1.0 (was v1.1)\n"
    assert back.err == "go back with: mstore set-active llama_1b@v1.1\n"
    history = run("active", "llama_1b", "--history").out.splitlines()
    assert [line.split()[1] for line in history] == ["v1.0", "v1.1", "v1.0", "v1.1", "v1.0"]
    assert history[0].startswith("llama_1b@ACTIVE@{0}")
    assert run("active", "llama_8b").err == "llama_8b has no ACTIVE version\n"


def test_aliases_and_notes(place: Path) -> None:
    """An alias is made, moved, listed, used and removed; notes are lines that add up."""
    assert run("alias").err.startswith("no aliases yet")
    unknown = run("alias", "prod")
    assert (unknown.code, unknown.out) == (4, "")
    assert "Hint: set it: mstore alias prod REF" in unknown.err
    assert run("alias", "prod", "ACTIVE").out == "prod is now llama_1b@v1.0\n"
    assert run("alias", "prod", "v1.1").out == "prod is now llama_1b@v1.1 (was v1.0)\n"
    assert run("alias", "best", "v1.1").code == 0
    assert run("alias", "prod").out == "prod  llama_1b@v1.1\n"
    assert run("alias").out == "best  llama_1b@v1.1\nprod  llama_1b@v1.1\n"
    assert run("note", "prod", "good").out == "good\n"
    assert run("note", "prod", "better").out == "good\nbetter\n"
    assert run("note", "v1.1").out == "good\nbetter\n"
    assert run("alias", "-d", "prod").out == "prod no longer means llama_1b@v1.1\n"
    assert run("log", "prod").code == 4
    assert run("alias", "-d").code == 2
    assert run("alias", "-d", "best", "v1.1").code == 2
    assert run("alias", "-d", "prod").code == 4
    assert run("commit", "two", "-M", "other").code == 0
    assert run("alias", "-d", "best").out == "best no longer means llama_1b@v1.1\n"


def test_checkout_status_and_release(place: Path) -> None:
    """What is checked out is what was committed; changes are seen; release takes it away again."""
    done = run("checkout", "v1.1", "-o", "out")
    assert done.out.startswith("llama_1b@v1.1: wrote 3 files, ")
    assert files_of(place / "out") == files_of(place / "two")
    assert "3 files already right" in run("checkout", "v1.1", "-o", "out").out
    assert run("status", "--exit-code").code == 0
    (place / "out/config.json").write_text("{}")
    assert run("status", "--exit-code").code == 1
    assert run("status", "-s").out == "  M out/config.json\n"
    assert run("checkout", "v1.1", "-o", "out", "-f").code == 0
    assert run("checkout", "v1.1", "-o", "out", "--release").out.startswith(
        "llama_1b@v1.1: released 3 files"
    )
    assert not files_of(place / "out")


def test_path_writes_what_is_not_there(place: Path) -> None:
    """`mstore path` prints one line, the directory, which then holds the files."""
    done = run("path", "v1.1")
    assert done.out == f"{place}/tuned_models/llama_1b/v1.1\n"
    assert (Path(done.out.strip()) / "model.safetensors").is_file()
    assert run("checkout", "v1.1", "-q").out == done.out


def test_path_never_prints_a_directory_of_other_weights(place: Path) -> None:
    """Bytes exchanged in place are exit code 5, nothing on stdout, and the hint mends it."""
    home = Path(run("path", "v1.0").out.strip())
    shutil.copy(place / "two/model.safetensors", home)
    done = run("path", "v1.0")
    assert (done.code, done.out) == (5, "")
    assert "files of llama_1b@v1.1: model.safetensors" in done.err
    assert "mstore checkout llama_1b@v1.0 -f" in done.err
    assert run("checkout", "llama_1b@v1.0", "-f").code == 0
    assert run("path", "v1.0").out == f"{home}\n"
    assert (home / "model.safetensors").read_bytes() == (
        place / "one/model.safetensors"
    ).read_bytes()


def test_the_store_is_no_place_to_check_out_to(place: Path) -> None:
    """-o into the store is exit code 5; a directory that holds the store is fine, and clean."""
    done = run("checkout", "v1.1", "-o", "tuned_models/llama_1b/v1.0")
    assert (done.code, done.out) == (5, "")
    assert "lies in the store" in done.err
    assert run("checkout", "v1.1", "-o", "tuned_models/llama_1b/v1.1").code == 0


def test_adopt_is_not_offered_for_a_directory_without_weights(place: Path) -> None:
    """Status says what such a directory lacks."""
    (place / "tuned_models/llama_1b/v7.0").mkdir()
    done = run("status")
    assert "llama_1b: neither registered nor with weights in it: v7.0" in done.err
    assert "adopt" not in done.err
    (model,) = [m for m in run("status", "--json").data("status")["models"] if m["versions"]]
    assert (model["unregistered"], model["without_weights"]) == ([], ["v7.0"])


def test_use_chooses_the_default_model(place: Path) -> None:
    """The default model is the one last committed to, until `use` says otherwise."""
    assert run("use").out == "llama_1b\n"
    assert run("use", "llama_8b").out == "llama_8b\n"
    assert run("use").err == ""
    assert run("use", "--unset").out == (
        "no default model; bare refs fall back to llama_1b, last committed to\n"
    )
    assert "last committed to" in run("use").err


def test_options_work_on_both_sides_of_the_verb(
    looked_at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-C and -M may stand before or after the verb, and MSTORE_STORE and MSTORE_MODEL for them."""
    monkeypatch.chdir(looked_at.parent)
    root = looked_at / "tuned_models"
    expected = run("-C", root, "-M", "llama_1b", "list")
    assert expected.code == 0
    assert run("list", "-C", root, "-M", "llama_1b") == expected
    monkeypatch.setenv("MSTORE_STORE", str(root))
    monkeypatch.setenv("MSTORE_MODEL", "llama_1b")
    assert run("list") == expected


@pytest.mark.parametrize("start", [".", "tuned_models", "tuned_models/llama_1b", "one"])
def test_the_store_is_found_from_the_place_that_is_said(
    looked_at: Path, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-C and MSTORE_STORE take any directory that would do as the current one."""
    expected = run("log", "--oneline")
    monkeypatch.chdir(tmp_path)
    assert run("-C", looked_at / start, "log", "--oneline") == expected
    monkeypatch.setenv("MSTORE_STORE", str(looked_at / start))
    assert run("log", "--oneline") == expected
    assert run("-C", looked_at / "mistyped", "log").code == 10


def test_changes_tell_of_a_registry_that_was_edited(place: Path) -> None:
    """Every command that writes says what it found in place of the view."""
    view = place / "tuned_models/llama_1b/model_registry.json"
    for words in (
        ("set-active", "v1.1"),
        ("rollback",),
        ("alias", "a", "v1.1"),
        ("note", "a", "x"),
    ):
        view.write_text(view.read_text().replace("tuned", "mine"))
        assert "was edited" in run(*words).err
        assert "was edited" not in run("note", "v1.0", "y").err


def test_readers_of_an_empty_store_say_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a store without versions they exit with 0 and name the next command."""
    monkeypatch.chdir(tmp_path)
    run("init", "--bare")
    for verb in ("log", "list"):
        done = run(verb)
        assert done.code == 0
        assert done.err.endswith("next: mstore commit DIR -M MODEL -m MESSAGE\n")
    for verb in ("active", "status", "verify", "du"):
        assert run(verb).code == 0
