"""Many processes at one store, killed at random: what they acknowledged is there in the end."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.fsck import fsck
from modelstore.store import Store, create
from tests.builders import safetensors_bytes
from tests.models import weights, write_model
from tests.torture.length import LONG
from tests.torture.oracle import broken

ROUNDS = 300 if LONG else 12
AT_ONCE = 4
LINES = ("m", "n")


@dataclass
class Soak:
    """A store, and what it acknowledged.

    Attributes:
        versions: the id that each acknowledged version has.
        killed, ended: how many processes were killed, and how many came to their end.
    """

    root: Path
    chance: random.Random
    versions: dict[str, str] = field(default_factory=dict)
    killed: int = 0
    ended: int = 0

    def command(self, number: int) -> list[str]:
        """Return one of the commands that change a store."""
        line = self.chance.choice(LINES)
        kind = self.chance.choice(
            ("commit", "commit", "commit", "active", "checkout", "gc", "path")
        )
        words = {
            "commit": ["commit", str(self.model(number)), "-M", line, "-m", str(number), "--json"],
            "active": ["set-active", f"{line}@latest"],
            "checkout": [
                "checkout",
                f"{line}@latest",
                "-o",
                str(self.root / f"out{number % 3}"),
                "-f",
            ],
            "path": ["path", f"{line}@v1.0"],
            "gc": ["gc", "--purge-now"],
        }[kind]
        return [sys.executable, "-m", "modelstore", "-C", str(self.root / "store"), *words]

    def model(self, number: int) -> Path:
        """Write a model that nobody has committed."""
        tensors = weights(1, step=1e-4 * (number + 1), dtype="BF16")
        files = {"model.safetensors": safetensors_bytes(tensors)}
        return write_model(self.root / "runs" / str(number), files=files)

    def run(self, rounds: int) -> None:
        """Start processes, several at once, and kill about half of them at a random moment."""
        running: list[tuple[subprocess.Popen[str], float]] = []
        for number in range(rounds):
            command = self.command(number)
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            dies = self.chance.uniform(0.1, 1.5) if self.chance.random() < 0.6 else 120.0
            running.append((process, time.monotonic() + dies))
            while len(running) >= AT_ONCE:
                running = [one for one in running if not self.reap(*one)]
                time.sleep(0.01)
        while running:
            running = [one for one in running if not self.reap(*one)]
            time.sleep(0.01)

    def reap(self, process: subprocess.Popen[str], until: float) -> bool:
        """Kill a process whose time has come, or read what one that ended said."""
        if process.poll() is None:
            if time.monotonic() < until:
                return False
            process.send_signal(signal.SIGKILL)
            self.killed += 1
        said, complaint = process.communicate()
        if process.returncode >= 0:
            self.ended += 1
            assert process.returncode in {0, 5}, complaint  # 5: somebody was faster, and it says so
            assert "Traceback" not in complaint
        if said.startswith("{") and said.endswith("\n") and "mstore/commit/" in said:
            done = json.loads(said)["data"]
            self.versions[f"{done['model']}@{done['version']}"] = done["id"]
        return True


def test_killed_processes_lose_nothing(arena: Path) -> None:
    """Every version that was acknowledged is listed and whole, no lock is stale, and fsck is clean."""
    store = create(arena / "store")
    for line in LINES:
        commit(store, write_model(arena / "first"), ModelName(line), CommitOptions())
    soak = Soak(arena, random.Random(7))
    soak.run(ROUNDS)

    assert soak.killed >= ROUNDS // 10
    assert soak.ended >= ROUNDS // 10
    store = Store(store.root)
    listed = {
        f"{model}@{entry.version}": entry.id
        for model in store.models()
        for entry in store.state(model).entries()
    }
    assert soak.versions.items() <= listed.items()
    assert not broken(arena, directories=False)
    assert not [one for one in fsck(store).findings if one.serious]
    for line in LINES:
        state = store.state(ModelName(line))
        journal = [row["seq"] for row in store.registry(ModelName(line)).journal()]
        assert journal in (list(range(1, state.seq + 1)), list(range(1, state.seq)))
        start = time.monotonic()
        commit(store, soak.model(10_000 + len(line)), ModelName(line), CommitOptions())
        assert time.monotonic() - start < 20  # no lock is waited for that nobody holds
    print(f"{ROUNDS} processes, {soak.killed} killed, {len(soak.versions)} versions acknowledged")
