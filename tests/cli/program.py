"""Runs mstore, in this process where that will do, since starting one costs a second."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from modelstore import cli


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run of mstore ended: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    def data(self, schema: str) -> Any:
        """Return the data of the envelope on stdout, whose schema must be this one."""
        value = json.loads(self.out)
        assert value["schema"] == f"mstore/{schema}/1"
        return value["data"]

    def error(self) -> dict[str, Any]:
        """Return the data of the error on stderr; stdout must be empty."""
        assert self.out == ""
        value = json.loads(self.err)
        assert value["schema"] == "mstore/error/1"
        data: dict[str, Any] = value["data"]
        assert data["exit"] == self.code
        return data


def run(*words: object) -> Ran:
    """Run mstore in this process and in its working directory."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        try:
            cli.main([str(word) for word in words])
        except SystemExit as left:
            code = int(left.code or 0)
    out, err = (_text(stream) for stream in streams)
    return Ran(code, out, err)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


def command(*words: object) -> list[str]:
    """Return the command line that starts mstore as a process."""
    return [sys.executable, "-m", "modelstore", *map(str, words)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a process, with the sources on its path."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p or os.curdir for p in sys.path),
        **(more or {}),
    }


def spawn(*words: object, env: Mapping[str, str] | None = None) -> Ran:
    """Run mstore as a process of its own."""
    done = subprocess.run(
        command(*words), capture_output=True, text=True, check=False, env=environment(env)
    )
    return Ran(done.returncode, done.stdout, done.stderr)
