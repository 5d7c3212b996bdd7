"""Runs the benchmarks and prints their tables as Markdown; docs/benchmarks.md says what they mean.

    python benchmarks/run.py                              all of them: some two hours on two cores
    python benchmarks/run.py targets                      one of them
    python benchmarks/run.py peers --history full         on one history
    python benchmarks/run.py peers --history DIR          on versions of one's own: DIR/v1.0, ...
    python benchmarks/run.py --write                      also into docs/benchmarks.md, with charts

Everything that is made lies in build/bench; packages, fine-tunes and results are kept there.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import backups
import coder
import durability
import many_versions
import measure
import memory
import page
import serve
import side_by_side
import start_up
import store_size
from environment import all_peers, releases
from targets import Targets
from weights import HISTORIES, Histories, beginning

ROOT = Path(__file__).resolve().parent.parent

TIMED = ("full", "big")
"""The histories that are repeated, and whose speeds are reported; others are stored once."""

NAMES = (
    "start-up",
    "registry",
    "durability",
    "size",
    "peers",
    "coder",
    "targets",
    "memory",
    "backups",
    "serve",
)
"""Every benchmark, in the order they run."""


def main() -> None:
    options = parse()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    histories = Histories(work, options.history)
    reports: dict[str, Callable[[], str]] = {
        "start-up": start_up.report,
        "registry": lambda: many_versions.report(work, options.versions),
        "durability": lambda: durability.report(work),
        "size": lambda: store_size.report(work, histories),
        "peers": lambda: peers(work, histories, options.rounds, write=options.write),
        "coder": lambda: coder.report(work, histories),
        "targets": lambda: Targets(work, histories, options.rounds).report(),
        "memory": lambda: memory.report(work, options.size),
        "backups": lambda: backups.report(work, histories),
        "serve": lambda: serve.report(work, histories, options.rounds),
    }
    print(machine(), flush=True)
    failed = []
    for name in options.names or NAMES:
        print(f"\n## {name}\n", flush=True)
        try:
            text = reports[name]()
        except measure.FailedError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
            continue
        print(text, flush=True)
        if options.write:
            page.replace(name, f"{machine()}\n\n{text}")
    if failed:
        sys.exit(f"without a result: {', '.join(failed)}")


def peers(work: Path, histories: Histories, rounds: int, *, write: bool) -> str:
    """Return the tables of every history; with ``write`` also draw the charts."""
    parts: list[str] = []
    for history in histories.wanted():
        timed = history.name in TIMED or history.name not in HISTORIES
        if history.name == "big":
            history = beginning(history, 2)
        ways = all_peers(work, history)
        trials = side_by_side.run(work, history, ways, rounds if timed else 1)
        tables = [side_by_side.sizes(history, trials)]
        if timed:
            tables.append(side_by_side.speeds(history, trials))
        if write:
            tables += page.draw(history, trials)
        parts.append("\n\n".join((f"### {history.name}\n\n{history.what}.", *tables)))
        print(f"\n{parts[-1]}", file=sys.stderr, flush=True)
        if len(parts) == 1:
            parts.insert(0, releases(ways))
    return "\n\n".join(parts)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description="measure mstore")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="for files")
    parser.add_argument("--versions", type=int, default=10_000, help="in the registry")
    parser.add_argument("--size", type=float, default=2.0, help="gigabytes of the model for memory")
    parser.add_argument("--rounds", type=int, default=3, help="of everything that is timed")
    parser.add_argument("--write", action="store_true", help="the tables into docs/benchmarks.md")
    parser.add_argument(
        "--history",
        action="append",
        default=[],
        metavar="NAME|DIR",
        help="for peers: one of those that are made, or a directory with v1.0, v1.1, ... in it",
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    return options


def machine() -> str:
    """Return a line that says what was measured on and when; how busy it was counts as well."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{datetime.now(tz=timezone.utc):%Y-%m-%d}: {os.cpu_count()} CPU cores{load}, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}."
    )


if __name__ == "__main__":
    main()
