"""Pins: what a backup is reading stays where it is, whatever is removed meanwhile.

A pin is a file that names manifests, beside a lock that dies with its process. It is made under the
store's lock, and gc looks at pins under the same lock; so what a backup has seen, gc leaves alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from modelstore import disk
from modelstore.canonical import line, parse_mapping
from modelstore.errors import IntegrityError, LockTimeoutError
from modelstore.hashing import Digest, parse_digest
from modelstore.locks import locked
from modelstore.store import Store

_DIRECTORY = "pins"


class Pin:
    """A pin that is held; `add` is called under the store's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, manifests: Iterable[Digest]) -> None:
        """Let ``manifests``, and all that they name, stay until the pin is let go."""
        text = line({"manifests": sorted(set(manifests))})
        disk.replace(self._path, text.encode("ascii") + b"\n")


@contextmanager
def pin(store: Store) -> Iterator[Pin]:
    """Hold a pin for the length of the block; it names nothing yet."""
    directory = store.meta / _DIRECTORY
    disk.make_dir(directory)
    clear(store)
    path = directory / f"{os.urandom(8).hex()}.json"
    with ExitStack() as stack:
        stack.callback(_remove, path)
        stack.enter_context(locked(_lock_of(path)))
        yield Pin(path)


def held(store: Store) -> set[Digest]:
    """Return the manifests that running processes hold; the caller holds the store's lock, or plans.

    Raises:
        IntegrityError: a pin that is held cannot be read, so that nobody can tell.
    """
    found: set[Digest] = set()
    for path in _pins(store):
        try:
            with locked(_lock_of(path), timeout=0):
                continue  # its process has gone
        except LockTimeoutError:
            found |= _read(path)
    return found


def clear(store: Store) -> int:
    """Remove the pins of processes that were killed; return how many they were."""
    removed = 0
    for path in _pins(store):
        try:
            with locked(_lock_of(path), timeout=0):
                pass
        except LockTimeoutError:
            continue
        _remove(path)
        removed += 1
    return removed + _clear_lone_locks(store)


def _clear_lone_locks(store: Store) -> int:
    """Remove locks without a pin: somebody looked just when it was let go."""
    removed = 0
    for lock in sorted((store.meta / _DIRECTORY).glob("*.lock")):
        with suppress(LockTimeoutError):  # about to be a pin
            if not lock.with_suffix(".json").exists():
                with locked(lock, timeout=0):
                    if not lock.with_suffix(".json").exists():
                        _remove(lock)
                        removed += 1
    return removed


def _pins(store: Store) -> list[Path]:
    directory = store.meta / _DIRECTORY
    with disk.explained(directory, "read"):
        return sorted(directory.glob("[0-9a-f]*.json")) if directory.is_dir() else []


def _read(path: Path) -> set[Digest]:
    try:
        value = parse_mapping(path.read_bytes(), path.name)
        return set(map(parse_digest, value["manifests"]))
    except FileNotFoundError:
        return set()  # let go just now
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"'{path}' is malformed; nothing was deleted", "wait for the backup to end"
        ) from error


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


def _remove(path: Path) -> None:
    for suffix in (".json", ".lock", ".owner"):
        disk.remove(path.with_suffix(suffix))
