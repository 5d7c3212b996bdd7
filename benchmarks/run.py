"""Runs the benchmarks and prints their tables as Markdown; docs/benchmarks.md says what they mean.

    python benchmarks/run.py                                  all of them, small: a quarter of an hour
    python benchmarks/run.py memory --size 16                 one of them, large
    python benchmarks/run.py size --history DIR               on versions of one's own

Everything that is made lies in build/bench; packages and fine-tunes are kept there for the next run.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import many_versions
import measure
import memory
import start_up
import store_size
import throughput
import weights

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    options = parse()
    options.work.mkdir(parents=True, exist_ok=True)
    histories = weights.Histories(options.work, options.history, options.steps)
    reports: dict[str, tuple[str, Callable[[], str]]] = {
        "start-up": ("Start-up", start_up.report),
        "registry": (
            f"A registry of {options.versions:,} versions",
            lambda: many_versions.report(options.work, options.versions),
        ),
        "size": ("Size of a store", lambda: store_size.report(options.work, histories)),
        "throughput": ("Throughput", lambda: throughput.report(options.work, histories)),
        "memory": ("Memory", lambda: memory.report(options.work, options.size)),
    }
    print(machine(), flush=True)
    for name in options.names or reports:
        title, report = reports[name]
        print(f"\n## {title}\n", flush=True)
        print(report(), flush=True)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description="measure mstore")
    names = ("start-up", "registry", "size", "throughput", "memory")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="for files")
    parser.add_argument("--versions", type=int, default=10_000, help="in the registry")
    parser.add_argument("--size", type=float, default=2.0, help="gigabytes of the model for memory")
    parser.add_argument("--steps", type=int, default=16, help="of training per version")
    parser.add_argument(
        "--history",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="holds a directory per version (v1.0, v1.1, ...); instead of the default ones",
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    return options


def machine() -> str:
    """Return a line that says what was measured on and when; how busy it was counts as well."""
    rows = {
        "date": datetime.now(tz=timezone.utc).strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "Python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
    }
    return measure.table(("", ""), list(rows.items()))


if __name__ == "__main__":
    main()
