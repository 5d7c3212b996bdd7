"""Clone: a new store with all that a remote has, or with all but the frames."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelstore.errors import ConflictError
from modelstore.names import ModelName
from modelstore.ops.backup_place import destination
from modelstore.ops.elsewhere import identify
from modelstore.ops.pull import Pulled, pull
from modelstore.ops.remotes import ORIGIN, add, named, opened
from modelstore.ops.tracking import LAZY
from modelstore.progress import Progress, silent
from modelstore.remotes.address import parse_address
from modelstore.store import Store, create, is_store

_CLONING = "cloning"
"""The setting that names what is being cloned, until that is done."""


@dataclass(frozen=True, slots=True)
class Cloned:
    """What a clone made.

    Attributes:
        store: the new store.
        models: what came, model by model.
        lazy: whether frames come only when they are needed.
    """

    store: Store
    models: tuple[Pulled, ...]
    lazy: bool


def clone(
    url: str,
    root: Path,
    models: Sequence[ModelName] = (),
    *,
    lazy: bool = False,
    environment: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Cloned:
    """Make ``root`` a store that has what the remote at ``url`` has.

    Cut short, it goes on with another clone, or with a pull in the store that is there by then.

    Args:
        root: absent, or an empty directory, or what a clone that was cut short left.
        models: those that are wanted; () for all.
        lazy: bring manifests only; frames come when a version is read.
        environment: variables that may hold credentials, as in `os.environ`.

    Raises:
        ConflictError: there is something at ``root``.
        NotFoundError: there is no store at ``url``, or no such model.
        NotFoundError, IntegrityError, RemoteError: as for `pull`.
    """
    address = parse_address(url)
    if address.scheme == "file":
        url = str(Path(address.path).absolute())
    _check_root(root, url)
    with destination(None, url, environment or {}) as remote:
        identify(remote)  # before anything is made here
    store = create(root)
    store.configure({_CLONING: url})
    store.environment = environment or {}
    if named(store, ORIGIN) is None:
        add(store, ORIGIN, url, probing=False)
    store.configure({LAZY: ORIGIN if lazy else ""})
    with opened(store, ORIGIN) as place:
        found = pull(store, place, models, progress=progress)
    store.configure({_CLONING: ""})
    return Cloned(store, tuple(found), lazy)


def _check_root(root: Path, url: str) -> None:
    """Raise unless ``root`` is absent or empty, or what an earlier clone left there."""
    if not os.path.lexists(root) or (root.is_dir() and not os.listdir(root)):
        return
    if root.is_dir() and is_store(root):
        begun = Store(root)
        if begun.config().get(_CLONING) == url or not (begun.models() or begun.config()):
            return
    raise ConflictError(
        f"'{root}' exists and is not empty",
        "give a directory that does not exist; or, in a clone: mstore pull",
    )
