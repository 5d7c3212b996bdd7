"""Where the files of a version are written: its own directory, or one outside the store.

Within the store every directory means one thing, so that nobody finds other weights in it.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from modelstore import disk
from modelstore.errors import ConflictError, StoreError
from modelstore.hashing import digest_of
from modelstore.manifest import Manifest
from modelstore.names import is_version, parse_version
from modelstore.ops.resolve import Resolved
from modelstore.ops.working import Checkout, checkout_at, checkouts
from modelstore.store import MANIFEST, Store

RUNS = "runs"
"""Where trainings work, below `.mstore`; they check out what they start from."""


CHECKPOINTS = "checkpoints"
"""The directory of a run's notes, each of which names what the store has of the run's state."""

STARTED_FROM = "started_from"
"""The file in a run's directory that names the version it started from, which so must stay."""


def home(store: Store, resolved: Resolved) -> Path:
    """Return the version's own directory.

    That is `v1.0`, unless the version was adopted from a directory beside it that is called
    otherwise, as `v1`, and still is there.
    """
    usual = store.version_dir(resolved.model, resolved.entry.version)
    known = checkout_at(store, usual)
    if known is not None and known.id == resolved.id:
        return usual
    beside = (store.root / resolved.model).resolve()
    for other in checkouts(store):
        if other.path.parent == beside and _is_of(other, resolved):
            return usual.with_name(other.path.name)
    return usual


def is_home(store: Store, resolved: Resolved, directory: Path) -> bool:
    """Tell whether a directory that `target` returned is the version's own."""
    return directory.parent == store.root / resolved.model


def target(store: Store, resolved: Resolved, manifest: Manifest, output: Path | None) -> Path:
    """Return the directory to write to: the version's own, or ``output``.

    Raises:
        ConflictError: ``output`` lies in the store and is not the version's own, or a file would
            come to lie in the store; or the version's own directory cannot hold its files.
    """
    own = home(store, resolved)
    usual = store.version_dir(resolved.model, resolved.entry.version)
    if output is not None and output.resolve() not in {own.resolve(), usual.resolve()}:
        _check_outside(store, resolved, manifest, output)
        return output.absolute()
    _check_own(store, resolved, own)
    if manifest.file(MANIFEST) is not None:
        raise ConflictError(
            f"{resolved} has a file {MANIFEST!r} of its own, which the store's would hide",
            f"mstore checkout {resolved} -o DIR",
        )
    return own


def _check_own(store: Store, resolved: Resolved, own: Path) -> None:
    """Raise where a symlink leads from the version's own directory to one outside the store."""
    if own.resolve().parent.parent != store.root.resolve():
        raise ConflictError(
            f"'{own}' is, or lies below, a symlink to '{own.resolve()}'",
            f"remove the link, or write elsewhere: mstore checkout {resolved} -o DIR",
        )


def _is_of(known: Checkout, resolved: Resolved) -> bool:
    name = known.path.name
    another = is_version(name) and str(parse_version(name)) == name
    noted = (known.id, known.version)
    return not another and noted == (resolved.id, str(resolved.entry.version))


def _check_outside(store: Store, resolved: Resolved, manifest: Manifest, output: Path) -> None:
    root, real = store.root.resolve(), output.resolve()
    if real.is_relative_to(root):
        if real.is_relative_to(store.meta.resolve() / RUNS):
            return
        raise ConflictError(
            f"'{output}' lies in the store and is not the directory of {resolved}",
            f"leave out -o, or give a directory outside: mstore checkout {resolved} -o DIR",
        )
    if not root.is_relative_to(real):
        return
    for file in manifest.files:
        place = real / file.path
        if place.is_relative_to(root) or root.is_relative_to(place):
            raise ConflictError(
                f"the file {file.path!r} of {resolved} would be written into the store",
                f"give another directory: mstore checkout {resolved} -o DIR",
            )


# --- staging


def staging(directory: Path) -> Path:
    """Return a new name in ``directory`` that tells which process works there."""
    process = f"{_machine()}-{os.getpid()}-{birth(os.getpid())}"
    return directory / f".mstore-{process}-{os.urandom(4).hex()}.tmp"


def is_staging(name: str) -> bool:
    """Tell whether `staging` makes such names."""
    return name.startswith(".mstore-") and name.endswith(".tmp")


def sweep(directory: Path) -> None:
    """Remove what processes that were killed left in ``directory``, as far as that is sure.

    Another machine's are left alone: whether those processes live cannot be seen from here.
    """
    for path in _left_by_the_dead(directory):
        with suppress(StoreError):  # another process was faster, or may and we may not
            disk.remove_tree(path)


def _left_by_the_dead(directory: Path) -> Iterator[Path]:
    for path in directory.glob(f".mstore-{_machine()}-*.tmp"):
        parts = path.name.split("-")
        told = len(parts) == 5 and parts[2].isdecimal() and path.is_dir()
        if told and not _is_alive(int(parts[2]), parts[3]):
            yield path


def _machine() -> str:
    """Return what the machine, or the container that numbers its own processes, is called."""
    name = platform.node()
    with suppress(OSError):
        name += os.readlink("/proc/self/ns/pid")
    return digest_of(name.encode("utf-8", "surrogateescape"))[:8]


def _is_alive(pid: int, born: str) -> bool:
    if sys.platform == "win32":
        return True  # there is no asking without touching
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return birth(pid) in {born, ""}


def birth(pid: int) -> str:
    """Return when a process began, in ticks since the machine did; "" where that is not told.

    A dead process that nobody waited for began "never". See proc_pid_stat(5).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "never" if fields[0] in {b"Z", b"X"} else fields[19].decode("ascii")
