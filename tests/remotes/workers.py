"""Processes that are at work beside a test: ``python -m tests.remotes.workers WORK WHERE WHAT``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from modelstore.errors import ConflictError
from modelstore.ops.backup_prune import plan_prune, prune
from modelstore.ops.backup_retention import BackupPolicy
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.repack import repack
from modelstore.ops.repack_ways import Effort
from modelstore.ops.resolve import resolve
from modelstore.ops.rm import plan_rm, rm
from modelstore.remotes.opening import open_remote
from modelstore.store import Store
from tests.ops.remotes import LINE


def commits(root: str, sources: str) -> None:
    """Commit every directory in ``sources``, each with its name as the message."""
    for source in sorted(Path(sources).iterdir()):
        for _ in range(100):  # a gc may purge what a commit has just found to be there
            with suppress(ConflictError):
                commit(Store(Path(root)), source, LINE, CommitOptions(message=source.name))
                break
        else:
            sys.exit("it was never committed")


def collects(root: str, stop: str) -> None:
    """Remove every third version, and collect what that leaves, until there is a file ``stop``."""
    store = Store(Path(root))
    while not Path(stop).exists():
        for version in [str(one) for one in store.state(LINE).versions()][3:-1:3]:
            rm(store, plan_rm(store, [resolve(store, version)], force=True))
        gc(store, plan_gc(store, purge_now=True))


def repacks(root: str, stop: str) -> None:
    """Encode frames anew, until there is a file ``stop``."""
    while not Path(stop).exists():
        repack(Store(Path(root)), effort=Effort.NORMAL)


def prunes(address: str, _: str) -> None:
    """Keep the newest backup at a remote; remove frames that were marked, however lately."""
    remote = open_remote(address, dict(os.environ))
    prune(remote, plan_prune(remote, BackupPolicy(last=1)), timedelta(0))


WORK = {"commits": commits, "collects": collects, "repacks": repacks, "prunes": prunes}

if __name__ == "__main__":
    WORK[sys.argv[1]](*sys.argv[2:])
