"""Claim: a registry of 10,000 versions costs under half a second of CPU beyond start-up.

The versions are one chain of fine-tunes of a tiny model. The first is committed by ``mstore`` and
the others are written as it would have written them, every manifest included, but without one
fsync each, which would take an hour.
"""

from __future__ import annotations

import shutil
import statistics
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure

from modelstore import manifest
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName
from modelstore.registry import COMPACT_EVERY, JOURNAL, VIEW
from modelstore.state import Change, State, apply, make_record
from modelstore.store import Store
from modelstore.view import render

CLAIM = 0.5
"""Seconds of CPU beyond ``mstore --help``."""

MODEL = ModelName("line")
_RUNS = 5


def report(work: Path, count: int) -> str:
    """Return the table for a registry of ``count`` versions."""
    root = work / "many_versions"
    shutil.rmtree(root, ignore_errors=True)
    content = root / "content"
    write_model(content, 0)
    many = make_store(root / "many", content, count)
    one = make_store(root / "one", content, 1)
    start = statistics.median(measure.run(*measure.MSTORE, "--help").cpu for _ in range(_RUNS))
    rows = []
    for name, (large, small) in commands(content, count).items():
        cpu, least = _cpu(many.root, content, large) - start, _cpu(one.root, content, small) - start
        held = "yes" if cpu < CLAIM else "**no**"
        rows.append((f"`{name}`", f"{cpu:.2f} s", f"{least:.2f} s", held))
    shutil.rmtree(root)
    head = ("command", "CPU beyond start-up", "in a store of one version", f"under {CLAIM} s")
    return f"Start-up itself: {start:.2f} s of CPU.\n\n{measure.table(head, rows)}"


Words = tuple[object, ...]
"""What follows ``mstore -C STORE``."""


def commands(content: Path, count: int) -> dict[str, tuple[Words, Words]]:
    """Return what is measured, by how it is shown: in the large store, and in that of one version."""
    middle, last, first = f"v1.{count // 2}", f"v1.{count - 1}", "v1.0"
    log, commit = ("log", "-n", 20), ("commit", content, "-M", MODEL, "-m", "one more")
    return {
        "log -n 20": (log, log),
        "log REF -n 20": ((*log, last), (*log, first)),
        "list": (("list",), ("list",)),
        "list --json": (("list", "--json"), ("list", "--json")),
        "show REF": (("show", middle), ("show", first)),
        "show latest~5000": (("show", f"latest~{count // 2}"), ("show", first)),
        "active": (("active", MODEL), ("active", MODEL)),
        "set-active REF": (("set-active", middle), ("set-active", first)),
        "commit DIR": (commit, commit),
    }


_serial = iter(range(1, 1 << 30))


def _cpu(root: Path, content: Path, words: Words) -> float:
    """Return the median CPU seconds of a command that changes something every time."""
    taken = []
    for _ in range(_RUNS):
        if words[0] == "commit":
            write_model(content, next(_serial))
        if words[0] == "set-active":
            measure.mstore(root, "set-active", "latest")
        taken.append(measure.mstore(root, *words).cpu)
    return statistics.median(taken)


def write_model(directory: Path, seed: int) -> None:
    """Write a safetensors file of 4 kB that no other seed gives, and a configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    header = b'{"w":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]}}    '
    values = struct.pack("<1000f", *(0.01 * n + seed for n in range(1000)))
    data = struct.pack("<Q", len(header)) + header + values
    (directory / "model.safetensors").write_bytes(data)
    (directory / "config.json").write_text('{"model_type": "llama", "hidden_size": 1000}\n')


def make_store(root: Path, content: Path, count: int) -> Store:
    """Return a new store with one model of ``count`` versions, each the parent of the next."""
    measure.run(*measure.MSTORE, "init", root)
    measure.mstore(root, "commit", content, "-M", MODEL, "-m", "the base", "--metric", "loss=2.5")
    store = Store(root)
    first = store.state(MODEL)
    registry = store.registry(MODEL)
    refs = store.meta / "refs" / MODEL
    draft = store.manifest(MODEL, first.entries()[0])
    state, journal = first, [(registry.directory / JOURNAL).read_bytes()]
    for number in range(1, count):
        version, change, encoded = _next_version(state, draft, number)
        record, payload = make_record(state, change, draft.created_at)
        state = State(apply(state.document, record, digest_of(payload)))
        journal.append(payload)
        _write_version(registry.directory, version, encoded)
        (refs / f"{state.seq:010d}.json").write_bytes(payload)
        if state.seq % COMPACT_EVERY == 0:
            _compact(refs, state)
    (registry.directory / JOURNAL).write_bytes(b"".join(journal))
    (registry.directory / VIEW).write_bytes(render(state.document))
    return store


def _next_version(state: State, draft: manifest.Manifest, number: int) -> tuple[str, Change, bytes]:
    """Return the change that adds ``v1.<number>``, and its manifest."""
    version, parent = f"v1.{number}", state.document["versions"][f"v1.{number - 1}"]
    message = f"fine-tune {number} on the conversations of week {number % 52}"
    encoded = manifest.encode(replace(draft, parents=(Digest(parent["id"]),), message=message))
    values: dict[str, Any] = {
        **parent,
        "training_parameters": {"epochs": 3, "batch_size": 4, "learning_rate": 2e-5},
        "metrics": {"loss": 2.5 / number, "training_time": 1800.5, "model_size": 4072},
        "notes": f"evaluated by hand, run {number}",
        "path": f"{MODEL}/{version}",
        "id": digest_of(encoded),
        "seq": state.seq + 1,
        "parents": [parent["id"]],
        "message": message,
    }
    active = version if number % 10 == 0 else None
    return version, Change("commit", {version: values}, active=active, why=message), encoded


def _write_version(directory: Path, version: str, encoded: bytes) -> None:
    target = directory / version
    target.mkdir()
    (target / "manifest.json").write_bytes(encoded)
    for name in ("README.md", "model_info.json"):
        shutil.copyfile(directory / "v1.0" / name, target / name)


def _compact(refs: Path, state: State) -> None:
    """Do what the registry does now and then: keep the whole state, drop what is older."""
    (refs / f"base-{state.seq:010d}.json").write_bytes(render(state.document))
    for path in refs.iterdir():
        if int(path.stem.removeprefix("base-")) <= state.seq - COMPACT_EVERY:
            path.unlink()
