"""Doctor: is this machine, and the place where the store lies, fit for it.

Says what mstore relies on and what it found. Where a store is given, a few small files are written
into its `tmp/` and removed again.
"""

from __future__ import annotations

import os
import platform
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.errors import LockTimeoutError, StoreError
from modelstore.groupsync import durability
from modelstore.locks import gc_lock, locked, store_lock
from modelstore.ops.debris import debris
from modelstore.ops.place import RUNS
from modelstore.sizes import human_size
from modelstore.store import META, Store

OK, NOTE, PROBLEM = "ok", "note", "problem"

_NEEDED = ("numpy", "numba", "blake3", "filelock", "zstandard", "safetensors", "click", "rich")
_FURTHER = ("torch", "transformers", "accelerate", "trl", "peft", "datasets", "gguf")
_FILELOCK = (3, 30)
"""The first that never falls back to a lock that is none."""

_LITTLE = 1 << 30
"""Bytes; a commit of a small model may not fit into less."""

_EARLIEST = 1_700_000_000
"""Seconds: a clock before November 2023 was never set."""

_SKEW = 120
"""Seconds that the clock of a file server may differ from ours."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found about one thing.

    Attributes:
        name: what was looked at, in a word or two.
        state: "ok", "note" or "problem".
        what: what was found.
    """

    name: str
    state: str
    what: str


def doctor(store: Store | None = None) -> list[Diagnosis]:
    """Return what is to be said of the environment, and of the place of ``store``."""
    found = [_python(), *_packages(), _clock()]
    if all(one.state != PROBLEM for one in found):
        found += [_compiled(), _processor()]
    return found if store is None else [*found, *_of_store(store)]


# --- the machine


def _python() -> Diagnosis:
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Diagnosis("python", OK, system)


def _packages() -> Iterator[Diagnosis]:
    yield Diagnosis("mstore", OK, _version("mstore") or "run from its sources")
    for name in _NEEDED:
        version = _version(name)
        if version is None:
            yield Diagnosis(name, PROBLEM, "is not installed; pip install mstore")
        elif name == "filelock" and _numbers(version) < _FILELOCK:
            yield Diagnosis(name, PROBLEM, f"{version} is too old; pip install -U filelock")
        else:
            yield Diagnosis(name, OK, version)
    further = {name: _version(name) for name in _FURTHER}
    found = [f"{name} {version}" for name, version in further.items() if version is not None]
    missing = [name for name, version in further.items() if version is None]
    if found:
        yield Diagnosis("training", OK, ", ".join(found))
    if missing:
        what = f"not installed: {', '.join(missing)}; pip install 'mstore[train]'"
        yield Diagnosis("training", NOTE, what)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())


def _compiled() -> Diagnosis:
    """Say where compiled loops are kept; without a place they are compiled anew in each process."""
    from modelstore.codecs.compiling import compiled

    loop: Any = compiled(_loop)
    place = loop.stats.cache_path
    if place is None:
        what = "cannot be kept: every process compiles them; set NUMBA_CACHE_DIR"
        return Diagnosis("compiled loops", NOTE, what)
    return Diagnosis("compiled loops", OK, f"kept in {place}")


def _loop(number: int) -> int:
    return number


def _processor() -> Diagnosis:
    from modelstore.codecs.compiling import processor_has

    used = [name for name in ("avx2", "avx512f", "bmi2", "neon") if processor_has(name)]
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Diagnosis("processor", OK, f"{threads} threads, {', '.join(used) or 'no vector units'}")


def _clock() -> Diagnosis:
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.time() < _EARLIEST:
        return Diagnosis("clock", NOTE, f"says {moment}, which cannot be; versions get wrong dates")
    return Diagnosis("clock", OK, moment)


# --- the place of the store


def _of_store(store: Store) -> Iterator[Diagnosis]:
    yield Diagnosis("store", OK, str(store.root))
    if not store.meta.is_dir():
        what = f"has no {META}, as in a Git clone: the content is elsewhere"
        yield Diagnosis("content", NOTE, what)
        return
    yield from _owner(store)
    yield _durability(store)
    yield _room(store)
    if not os.access(store.meta / "tmp", os.W_OK):
        yield Diagnosis("writing", NOTE, "the store may only be read")
        return
    yield from _probed(store)
    yield from _holders(store)
    yield from _leftovers(store)


def _owner(store: Store) -> Iterator[Diagnosis]:
    """Say whether others may change the store: whoever writes to it decides what is loaded."""
    status = store.root.stat()
    if hasattr(os, "getuid") and status.st_uid not in (os.getuid(), 0):
        yield Diagnosis("owner", NOTE, f"the store belongs to another user ({status.st_uid})")
    if sys.platform != "win32" and status.st_mode & stat.S_IWOTH:
        yield Diagnosis("owner", PROBLEM, f"everybody may write to it; chmod o-w '{store.root}'")


def _durability(store: Store) -> Diagnosis:
    if durability(store.meta) == "syncfs":
        return Diagnosis("durability", OK, "one syncfs per version")
    return Diagnosis("durability", OK, "an fsync per file: the file system is not known for syncfs")


def _room(store: Store) -> Diagnosis:
    free = disk.free_space(store.meta)
    state = OK if free >= _LITTLE else NOTE
    return Diagnosis("free space", state, human_size(free))


def _probed(store: Store) -> Iterator[Diagnosis]:
    """Try what is relied on, in a directory of our own."""
    place = store.meta / "tmp" / f"doctor-{os.urandom(4).hex()}"
    try:
        disk.make_new_dir(place)
        disk.create(place / "file", b"probe" * 1000)
        tries: tuple[Callable[[Path], Diagnosis], ...] = (_links, _clones, _locks, _times)
        yield from [attempt(place) for attempt in tries]
    except StoreError as error:
        yield Diagnosis("writing", PROBLEM, error.message)
    finally:
        with suppress(StoreError):
            disk.remove_tree(place)


def _links(place: Path) -> Diagnosis:
    disk.link(place / "file", place / "link")
    if (place / "file").exists():
        return Diagnosis("hard links", OK, "work")
    disk.rename(place / "link", place / "file")
    return Diagnosis("hard links", NOTE, "are not to be had; files are moved into place instead")


def _clones(place: Path) -> Diagnosis:
    if disk.copy_new(place / "file", place / "copy"):
        return Diagnosis("reflinks", OK, "work: copies within the store share their bytes")
    return Diagnosis("reflinks", OK, "are not to be had; what is copied takes its room")


def _locks(place: Path) -> Diagnosis:
    """Lock one file twice: where that succeeds, locks are no locks."""
    try:
        with locked(place / "probe.lock"):
            try:
                with locked(place / "probe.lock", timeout=0):
                    what = "do not exclude each other here; let one process write at a time"
                    return Diagnosis("locks", PROBLEM, what)
            except LockTimeoutError:
                return Diagnosis("locks", OK, "work")
    except StoreError as error:
        return Diagnosis("locks", PROBLEM, error.message)


def _times(place: Path) -> Diagnosis:
    """Compare the clock of the file system with ours."""
    apart = (place / "file").stat().st_mtime - time.time()
    if abs(apart) > _SKEW:
        what = f"differs from that of the file system by {abs(apart):.0f} s; nothing relies on it"
        return Diagnosis("file times", NOTE, what)
    return Diagnosis("file times", OK, "agree with the clock")


def _holders(store: Store) -> Iterator[Diagnosis]:
    for path in (store_lock(store.meta), gc_lock(store.meta)):
        if not path.exists():
            continue
        try:
            with locked(path, timeout=0):
                pass
        except LockTimeoutError as error:
            yield Diagnosis("at work", NOTE, error.message)


def _leftovers(store: Store) -> Iterator[Diagnosis]:
    staged = [path for path in (store.meta / "tmp").glob("*") if path.is_dir()]
    count = len(debris(store)) + len(staged)
    if count:
        what = f"{count} of running or killed processes; those of killed ones go with: mstore gc"
        yield Diagnosis("leftovers", NOTE, what)
    trainings = [path for path in (store.meta / RUNS).glob("*") if path.is_dir()]
    if trainings:
        what = f"{len(trainings)} are not over; see what can go on with: mstore train --list-runs"
        yield Diagnosis("trainings", NOTE, what)
