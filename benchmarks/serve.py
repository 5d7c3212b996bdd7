"""Claim: a download from ``mstore serve`` is at least 0.4 times as fast as that of a plain file.

That is for tensors stored on their own, which come at 0.7 GB/s or more; those stored as a
difference from others come at 0.35 GB/s.
uvicorn serves the same bytes from a plain file, through Starlette; the client is the same small
program. All are held to two cores, and nobody else is asked to leave them: what slows the machine
down slows both, and the ratio is that of the medians of downloads in turn.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import measure
from timing import MODEL, depths
from weights import Histories, beginning

from modelstore.store import Store

RATIO = 0.4
CLAIMS = {0: 0.7, 1: 0.35}
"""GB/s by how deep the tensors lie."""

_CORES = 2
_READ = 1 << 20
_PATIENCE = 60.0

_PLAIN = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route
FileResponse.chunk_size = 1 << 20  # its own 64 KiB are three times as slow
async def answer(request):
    return FileResponse(sys.argv[1] + "/" + request.path_params["name"])
app = Starlette(routes=[Route("/{name}", answer)])
uvicorn.run(app, port=int(sys.argv[2]), http="h11", log_level="critical")
"""


@dataclass(slots=True)
class Trial:
    """Downloads of the largest file of one version; seconds each.

    Attributes:
        size: of the file, in bytes.
        depth: of its tensors, at most.
        served: CPU seconds of the server, for all of ``ours``.
        peak: bytes of resident memory of the server.
    """

    size: int
    depth: int
    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    served: float = 0.0
    peak: int = 0


def report(work: Path, histories: Histories, rounds: int) -> str:
    """Return the table for the first two versions of the largest history."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    history = beginning(histories.named("big"), 2)
    root = work / "serve"
    shutil.rmtree(root, ignore_errors=True)
    store = root / "store"
    measure.run(*measure.MSTORE, "init", store)
    for version in history.versions:
        measure.mstore(store, "commit", version, "-M", MODEL, "-m", version.name)
    deep = depths(Store(store))
    rows = []
    for version in history.versions:
        file = max(version.glob("*.safetensors"), key=lambda path: path.stat().st_size)
        trial = Trial(file.stat().st_size, deep[version.name])
        _run(store, file, version.name, trial, rounds)
        rows.append(_row(version.name, trial))
    shutil.rmtree(root)
    head = (
        "version",
        "depth",
        "mstore serve",
        "plain file",
        "ratio",
        "server CPU",
        "peak",
        "claim",
    )
    return measure.table(head, rows)


def _run(store: Path, file: Path, version: str, trial: Trial, rounds: int) -> None:
    """Download in turn from both servers; the first of each is not counted, it warms caches."""
    ours = [*measure.MSTORE, "-C", str(store), "serve", "--quiet", "--port"]
    plain = [sys.executable, "-c", _PLAIN, str(file.parent)]
    with _server(ours) as (ours_at, process), _server(plain) as (plain_at, _):
        for number in range(rounds + 1):
            path = f"/{MODEL}/resolve/{version}/{file.name}"
            before = _cpu(process.pid)
            taken = (
                _download(ours_at, path, trial.size),
                _download(plain_at, f"/{file.name}", trial.size),
            )
            if number:
                trial.ours.append(taken[0])
                trial.plain.append(taken[1])
                trial.served += _cpu(process.pid) - before
        trial.peak = _peak(process.pid)


@contextmanager
def _server(command: list[str]) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a server on a free port, held to two cores as the client is."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield port, process
        finally:
            process.send_signal(signal.SIGINT)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise measure.FailedError(f"nothing listens on port {port}")


def _download(port: int, path: str, size: int) -> float:
    """Return the seconds that it takes to read a file and forget it."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    response = connection.getresponse()
    buffer = memoryview(bytearray(_READ))
    read = 0
    while count := response.readinto(buffer):
        read += count
    connection.close()
    if (response.status, read) != (200, size):
        raise measure.FailedError(f"{path}: status {response.status}, {read} of {size} bytes")
    return time.perf_counter() - began


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak(pid: int) -> int:
    """Return the most resident memory that a process had; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def _row(version: str, trial: Trial) -> tuple[str, ...]:
    ours, plain = statistics.median(trial.ours), statistics.median(trial.plain)
    speed, ratio = trial.size / ours / 1e9, plain / ours
    alone = trial.depth == 0
    claim = CLAIMS[min(trial.depth, 1)]
    held = speed >= claim and (ratio >= RATIO or not alone)
    wanted = f">= {claim:g} GB/s{f', >= {RATIO:g}' if alone else ''}"
    return (
        f"{version}, {trial.size / 1e9:.2f} GB",
        str(trial.depth),
        f"{speed:.2f} GB/s",
        f"{trial.size / plain / 1e9:.2f} GB/s",
        f"{ratio:.2f}",
        f"{trial.served / len(trial.ours) / trial.size * 1e9:.2f} s/GB",
        f"{trial.peak / 1e6:,.0f} MB",
        f"{'yes' if held else '**no**'} ({wanted})",
    )
