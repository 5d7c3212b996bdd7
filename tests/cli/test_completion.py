"""The shell completes commands, models, versions and full refs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import environment, run

REFS = ["@ACTIVE", "@latest", "@v1.0", "@v1.1"]

CASES = [
    ("lo", "log"),
    ("ver", "verify"),
    ("use ", "llama_1b llama_8b"),
    ("-M llama_1", "llama_1b"),
    ("log v", "v1.0 v1.1"),
    ("log lat", "latest"),
    ("log llama_1b@", " ".join(REFS)),
    ("log llama_1b@v1.", "@v1.0 @v1.1"),
    ("-C tuned_models log llama_1b@l", "@latest"),
    ("commit one --parent llama_1b@v1.1", "@v1.1"),
    ("commit one --parent=llama_1b@v1.1", "@v1.1"),
    ("commit one --parent=lat", "latest"),
    ("checkout -M llama_1b A", "ACTIVE"),
    ("log llama_8b@", ""),
    ("help che", "checkout"),
    ("undelete ", ""),
    ("log nobody@", ""),
]


def _words(typed: str) -> tuple[list[str], str]:
    """Return the words that bash 5 makes of a line, and the one that it will replace.

    At @, : and = it cuts words; what it replaces begins with an @ if there is one (bash's
    rl_special_prefixes), else after the last cut.
    """
    words: list[str] = []
    for part in ["mstore", *typed.split(" ")]:
        pieces = part.replace("@", "\0@\0").replace("=", "\0=\0").split("\0")
        words += [piece for piece in pieces if piece] or [""]
    last = words[-1]
    if last == "=":
        return words, ""
    at = "@" if len(words) > 1 and words[-2] == "@" else ""
    return words, at + last


@pytest.mark.needs("bash")
def test_bash_completes_what_a_user_types(looked_at: Path, tmp_path: Path) -> None:
    """The script, sourced in a real bash with words cut as readline cuts them, gives the replies."""
    lines = ['eval "$(mstore completion bash)"']
    for typed, _ in CASES:
        words, replaced = _words(typed)
        lines += [
            f"COMP_LINE={shlex.quote(f'mstore {typed}')}",
            f"COMP_WORDS=({' '.join(map(shlex.quote, words))})",
            f"COMP_CWORD={len(words) - 1}",
            f"_mstore_completion mstore {shlex.quote(replaced)} ''",
            'echo "${COMPREPLY[*]}"',
        ]
    done = _in_shell(["bash", "--norc", "-c", "\n".join(lines)], tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [replies for _, replies in CASES]


def test_outside_of_a_store_nothing_is_offered(tmp_path: Path) -> None:
    """A shell that completes where there is no store gets no error."""
    done = subprocess.run(
        [sys.executable, "-m", "modelstore"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment(
            {"_MSTORE_COMPLETE": "bash_complete", "COMP_WORDS": "mstore\nlog\nv", "COMP_CWORD": "2"}
        ),
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: str) -> None:
    """The scripts ask mstore itself, and nothing was left unfilled in them."""
    done = run("completion", shell)
    assert done.code == 0
    assert f"_MSTORE_COMPLETE={shell}_complete" in done.out
    assert "%(" not in done.out


@pytest.mark.needs("fish")
def test_fish_completes_what_a_user_types(looked_at: Path, tmp_path: Path) -> None:
    """The script, sourced in a real fish, offers the versions that begin with what was typed."""
    script = "mstore completion fish | source; complete -C 'mstore log llama_1b@v1'"
    done = _in_shell(["fish", "--no-config", "-c", script], tmp_path)
    assert done.stderr == ""
    assert done.stdout.split() == ["llama_1b@v1.0", "llama_1b@v1.1"]


@pytest.mark.needs("zsh")
def test_zsh_takes_its_script(looked_at: Path, tmp_path: Path) -> None:
    """The script, sourced in a real zsh, is what completes mstore from then on."""
    script = (
        'autoload -U compinit; compinit -u; eval "$(mstore completion zsh)"; echo $_comps[mstore]'
    )
    done = _in_shell(["zsh", "-f", "-c", script], tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("_mstore_completion", "")


def _in_shell(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell that finds this mstore, in a home of its own."""
    program = place / "mstore"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m modelstore "$@"\n')
    program.chmod(0o755)
    path = f"{place}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=environment({"PATH": path, "HOME": str(place)}),
    )
