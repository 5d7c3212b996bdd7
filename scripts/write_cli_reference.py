"""Write docs/cli.md from the help of every command.

With --check it writes nothing, and exits with 1 if the page is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from modelstore.cli import COMMANDS, cli

TARGET = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
WIDTH = 100

HEAD = """\
# The command line

Written by `make docs` from what the commands say with `--help`; do not edit.

`python -m modelstore` is the same program as `mstore`, and `mstore help commit` the same as
`mstore commit --help`. Results go to stdout, all else to stderr. [json.md](json.md) says what
`--json` prints.

| exit code | meaning |
|---|---|
| 0 | done, or nothing to do |
| 1 | a negative answer: a problem found, changes with `--exit-code`; also any other failure |
| 2 | the command line is wrong |
| 3 | partly done |
| 4 | not found, or ambiguous |
| 5 | conflict: it exists, has local changes, or was moved by someone else |
| 6 | damaged: bytes do not match their digest |
| 7 | a remote failed |
| 8 | no space left |
| 10 | no store here |
| 11 | another process holds the lock |
| 13 | the store needs a newer mstore |
| 14 | the training diverged |
| 70 | a bug in mstore; `MSTORE_DEBUG=1` shows the traceback |
| 129 | stopped by SIGHUP: the terminal was closed |
| 130 | interrupted |
| 141 | the reader of a pipe went away |
| 143 | stopped by SIGTERM |

| variable | meaning |
|---|---|
| `MSTORE_STORE` | the store, where `-C` is not given |
| `MSTORE_MODEL` | the model of a ref that names none, where `-M` is not given |
| `MSTORE_AUTHOR` | who makes versions, where `--author` is not given |
| `MSTORE_DEBUG` | print a traceback before an internal error |
| `NO_COLOR` | no colours, even on a terminal |
"""


def main() -> int:
    """Write the page, or compare it; return the exit code."""
    text = reference()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET.name} is not what the commands say; run: make docs", file=sys.stderr)
    return 1


def reference() -> str:
    """Return the page: its head, the help of mstore, and that of each command."""
    root = cli.make_context("mstore", [], resilient_parsing=True, terminal_width=WIDTH)
    parts = [HEAD, section("mstore", cli.get_help(root))]
    for name in COMMANDS:
        command = cli.get_command(root, name)
        if command is None:
            raise LookupError(name)
        context = click.Context(
            command,
            info_name=name,
            parent=root,
            terminal_width=WIDTH,
            help_option_names=root.help_option_names,
        )
        parts.append(section(f"mstore {name}", command.get_help(context)))
    return "\n".join(parts)


def section(title: str, text: str) -> str:
    """Return one command's part of the page."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"## {title}\n\n```text\n{lines}\n```\n"


if __name__ == "__main__":
    sys.exit(main())
