"""Fuzzes one target, or all of them, with atheris (https://github.com/google/atheris).

    make fuzz FUZZ_SECONDS=600
    .venv/bin/python -m fuzz.run safetensors --seconds 60

New inputs that reach new code are kept in ``build/fuzz/<target>/``; one that breaks a promise is
written there as ``crash-...``, ``oom-...`` or ``timeout-...``, and the run ends with an error.
``--minimise`` reduces what is there to few and short inputs in ``tests/data/corpus``.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

MOST_MEMORY = 512
"""Megabytes."""

MOST_TIME = 1
"""Seconds that one input may take."""

MOST_BYTES = 1 << 16
"""Bytes of an input."""

MOST_SAVED = 4096
"""Bytes of an input in the saved corpus."""

Arc = tuple[str, int, int]
"""A file, a line that was run, and the line that was run before it."""

_TARGETS = (
    *("safetensors", "torch", "gguf", "frame", "manifest", "registry", "ref"),
    *("xorb", "shard"),
)
_KEPT = Path("build/fuzz")
_ONE = "--one"


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    if sys.argv[1:2] == [_ONE]:
        _fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description="fuzz the parsers of mstore")
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(_TARGETS)}; all if none")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--minimise", action="store_true", help="rewrite the saved corpus")
    options = parser.parse_args()
    from fuzz import seeds  # a child must not load mstore before atheris watches imports

    codes = []
    for target in options.targets or _TARGETS:
        kept = _KEPT / target
        kept.mkdir(parents=True, exist_ok=True)
        seeds.write(target, kept)
        print(f"--- {target}", flush=True)
        codes.append(_minimise(target, kept) if options.minimise else _run(target, kept, options))
    return max(codes)


def _run(target: str, kept: Path, options: argparse.Namespace) -> int:
    words = [f"-max_total_time={options.seconds}", f"-rss_limit_mb={MOST_MEMORY}"]
    words += [f"-timeout={MOST_TIME}", f"-max_len={MOST_BYTES}", f"-artifact_prefix={kept}/"]
    return _child(target, [*words, "-print_final_stats=1", "-verbosity=0", str(kept)])


def _minimise(target: str, kept: Path) -> int:
    """Save the shortest inputs that together reach all lines after lines that are reached."""
    from fuzz.targets import CORPUS, TARGETS

    small = CORPUS / target
    shutil.rmtree(small, ignore_errors=True)
    small.mkdir(parents=True)
    reached: set[Arc] = set()
    inputs = sorted(
        (path.read_bytes() for path in kept.iterdir()), key=lambda data: (len(data), data)
    )
    for data in inputs:
        new = _arcs(TARGETS[target], data) - reached if len(data) <= MOST_SAVED else set()
        if new:
            reached |= new
            (small / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"{len(list(small.iterdir()))} of {len(inputs)} inputs reach {len(reached)} arcs")
    return 0


def _arcs(function: Callable[[bytes], None], data: bytes) -> set[Arc]:
    """Return which lines of mstore's follow which when an input is read."""
    found: set[Arc] = set()
    last = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        nonlocal last
        if "modelstore" not in frame.f_code.co_filename:
            return None
        if event == "line":
            found.add((frame.f_code.co_filename, last, frame.f_lineno))
            last = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        function(data)
    finally:
        sys.settrace(None)
    return found


def _child(target: str, words: list[str]) -> int:
    """Run libFuzzer in a process of its own, for it ends the one that it runs in."""
    return subprocess.run([sys.executable, "-m", "fuzz.run", _ONE, target, *words]).returncode


def _fuzz(target: str, words: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["modelstore", "pickletools"]):
        from fuzz.targets import TARGETS

    function = TARGETS[target]
    function(b"")  # loads what is loaded late, before time is taken
    atheris.Setup([f"fuzz-{target}", *words], lambda data: function(bytes(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
