"""Verbs at real servers: where they are done, by way of what, and what came of them."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelstore.ops.backup import backup
from modelstore.ops.remotes import KEY_FILE
from modelstore.ops.restore import plan_restore, restore
from modelstore.remotes.base import Remote
from modelstore.remotes.keyfile import parse_key_file
from modelstore.remotes.opening import open_remote
from modelstore.remotes.sealed import create_sealed, open_sealed
from modelstore.store import Store, create
from tests.ops.remotes import LINE, files_out, pull_from, push_to
from tests.remotes.proxy import Fault, Plan, Proxy, Request
from tests.remotes.servers import ROOT, Place

Files = dict[str, dict[str, bytes]]
Verb = Callable[[Store, Remote, Path], object]


@dataclass(frozen=True)
class Spot:
    """A part of a bucket, near, and by way of a proxy; sealed if there is a key file."""

    place: Place
    near: str
    far: str
    key: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The credentials, and where the key is."""
        key = {} if self.key is None else {KEY_FILE: str(self.key)}
        return {**self.place.environment, **key}

    def remote(self) -> Remote:
        """Open it, near."""
        return self._opened(self.near)

    def far_remote(self) -> Remote:
        """Open it, by way of the proxy."""
        return self._opened(self.far)

    def _opened(self, address: str) -> Remote:
        inner = open_remote(address, self.place.environment)
        if self.key is None:
            return inner
        return open_sealed(inner, parse_key_file(self.key.read_bytes()))

    def run(self, root: Path, *words: str) -> subprocess.Popen[bytes]:
        """Start mstore in the store at ``root``."""
        return self.start("modelstore", "-C", str(root), *words)

    def start(self, module: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a module that can open it."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


def spot_in(place: Place, proxy: Proxy | None = None, key: Path | None = None) -> Spot:
    """Return an empty part of a bucket, sealed if there is a key file."""
    name = uuid.uuid4().hex
    if key is not None:
        inner = open_remote(place.below(name), place.environment)
        create_sealed(inner, parse_key_file(key.read_bytes())).close()
    return Spot(place, place.below(name), place.below(name, proxy.url if proxy else ""), key)


def all_files(store: Store) -> Files:
    """Return every version's files, decoded."""
    return {str(name): files_out(store, str(name)) for name in store.state(LINE).versions()}


def new(path: Path) -> Path:
    """Return a path below ``path`` where nothing is."""
    return path / uuid.uuid4().hex


# --- verbs


def _push(store: Store, remote: Remote, root: Path) -> None:
    push_to(store, remote)


def _pull(store: Store, remote: Remote, root: Path) -> None:
    pull_from(Store(root) if root.exists() else create(root), remote)


def _backup(store: Store, remote: Remote, root: Path) -> None:
    backup(store, remote)


def _restore(store: Store, remote: Remote, root: Path) -> None:
    restore(remote, plan_restore(remote, root), files=True)


VERBS: dict[str, Verb] = {"push": _push, "pull": _pull, "backup": _backup, "restore": _restore}


@dataclass(frozen=True)
class Scene:
    """A verb, with what it takes: what it sends is at ``store``, what it makes is at ``root``."""

    name: str
    store: Store
    spot: Spot
    root: Path

    def act(self, remote: Remote) -> None:
        """Do it."""
        VERBS[self.name](self.store, remote, self.root)

    def result(self) -> Files:
        """Return what came of it, as it is read back; {} for nothing."""
        remote, root = self.spot.remote(), self.root
        if self.name == "push":
            root = new(self.root.parent)
            pull_from(create(root), remote)
        if self.name == "backup":
            root = new(self.root.parent)
            restore(remote, plan_restore(remote, root))
        return all_files(Store(root))


def scene(name: str, store: Store, source: Spot, spot: Spot, tmp_path: Path) -> Scene:
    """Set a scene: pulls and restores are from ``source``, where everything is."""
    return Scene(name, store, spot if name in {"push", "backup"} else source, new(tmp_path))


def words_of(verb: str, address: str, root: Path) -> list[str]:
    """Return the command line of a verb."""
    if verb == "restore":
        return ["restore", address, str(root), "--checkout"]
    return [verb, address]


# --- what goes wrong at which request


def kill(runs: list[subprocess.Popen[bytes]]) -> None:
    """Kill a client."""
    runs[0].kill()


def once(hit: int, fault: Fault) -> Plan:
    """Return a plan that does ``fault`` to request number ``hit``."""
    return lambda number, _: fault if number == hit else None


def burst(hit: int, fault: Fault) -> Plan:
    """Return a plan that does ``fault`` to four requests from number ``hit`` on."""
    return lambda number, _: fault if hit <= number < hit + 4 else None


def from_then_on(hit: int, fault: Fault) -> Plan:
    """Return a plan that does ``fault`` to request number ``hit`` and all that follow."""
    return lambda number, _: fault if number >= hit else None


def then(hit: int, act: Callable[[], None]) -> Plan:
    """Return a plan that calls ``act`` when request number ``hit`` comes."""

    def plan(number: int, _: Request) -> None:
        if number == hit:
            act()

    return plan
