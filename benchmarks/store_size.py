"""Claim: a model alone is stored as small as its numbers allow, whatever file it comes in.

The sizes are exact and do not depend on the machine. For ours it is every byte of the store that a
commit adds: frames, manifest, registry and journal.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import measure
from delta_peers import BitX, Lmz, Mstore
from environment import prepare
from peers import Peer, Zstd
from weights import Histories

from modelstore.names import ModelName
from modelstore.store import Store

MODEL = ModelName("line")


def report(work: Path, histories: Histories) -> str:
    """Return the table."""
    ours = Mstore()
    peers = (Zstd(), BitX("fields"), Lmz(prepare(work)), ours)
    rows = []
    for what, path in histories.single().items():
        sizes = [_stored(work / "size", peer, path) for peer in peers]
        values = Store(ours.store).state(MODEL).entries()[-1].mapping("sizes")["parameters"]
        bits = f"{sizes[-1] * 8 / values:.2f}" if sizes[-1] else ""
        cells = [f"{size / 1e6:.1f} MB" if size else "not installed" for size in sizes]
        rows.append((what, f"{path.stat().st_size / 1e6:.1f} MB", *cells, bits))
    shutil.rmtree(work / "size")
    head = ("one version", "raw", *(peer.name for peer in peers), "mstore, bits/weight")
    return measure.table(head, rows)


def _stored(root: Path, peer: Peer, path: Path) -> int:
    """Return the bytes by which the peer's store grows for one file; 0 where it is not installed."""
    if not peer.version():
        return 0
    shutil.rmtree(root, ignore_errors=True)
    version = root / "v1.0"
    version.mkdir(parents=True)
    shutil.copyfile(path, version / path.name)
    (root / "peer").mkdir()
    peer.create(root / "peer")
    before = peer.stored()
    peer.commit(version, None)
    return peer.stored() - before
