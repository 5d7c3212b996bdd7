"""How anything is measured here: a program is run as its own process, and the kernel says what it cost.

CPU seconds and the peak of resident memory are what `wait4` reports, so they need no sampling.
A child inherits its parent's peak on Linux, so whoever calls `run` must itself stay small: what
needs arrays is done in processes of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MSTORE = (sys.executable, "-m", "modelstore")

# An installed program is compiled once; a setting that forbids it would be measured with it.
_INHERITED = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a program cost.

    Attributes:
        wall: seconds.
        cpu: seconds of all its threads, in user and in kernel mode.
        peak: bytes of resident memory, mapped files included.
    """

    wall: float
    cpu: float
    peak: int


class FailedError(Exception):
    """A program that was to be measured ended with an error; the text says which and what it said."""


def run(
    *command: object, environment: dict[str, str] | None = None, directory: Path | None = None
) -> Cost:
    """Run a program to its end and return its cost, that of all programs it waited for included.

    Raises:
        FailedError: it failed.
    """
    words = [str(word) for word in command]
    start = time.perf_counter()
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**_INHERITED, **(environment or {})},
        cwd=directory,
    ) as process:
        errors = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = errors.decode(errors="replace").strip()
        raise FailedError(f"{' '.join(words)}\nexit code {process.returncode}\n{said}")
    kilobyte = 1 if sys.platform == "darwin" else 1024  # macOS counts ru_maxrss in bytes
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * kilobyte)


def mstore(store: Path, *arguments: object) -> Cost:
    """Run ``mstore`` on a store and return its cost."""
    return run(*MSTORE, "-C", store, *arguments)


def answer(*command: object, environment: dict[str, str] | None = None) -> str:
    """Run a program whose cost does not matter; return what it prints, "" where it fails."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
            env={**_INHERITED, **(environment or {})},
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout


def settle() -> None:
    """Let the disk finish what it was given before, so that the next run does not pay for it."""
    if hasattr(os, "sync"):
        os.sync()


def disk_usage(root: Path) -> int:
    """Return the bytes of all files below ``root``, by their sizes."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; all columns but the first are flush right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
