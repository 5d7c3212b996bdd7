"""Claim: a fine-tune costs what changed, and less than with any way that peers publish.

Every way takes the same versions in the same order; the sizes are exact and do not depend on the
machine. For ours it is every byte of the store: frames, manifests, registry and journal.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import measure
from peers import Copies, Files, Peer, XorPlanes
from weights import Histories

from modelstore.names import ModelName
from modelstore.store import Store

MODEL = ModelName("line")
"""What the model is called in the stores that are made."""

_OURS = "**mstore**"


class Ours:
    """A store of mstore, as a way of storing versions.

    Attributes:
        weights: values in all tensors of the last version.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.weights = 0
        shutil.rmtree(root, ignore_errors=True)
        measure.run(*measure.MSTORE, "init", root)

    def add(self, version: Path) -> int:
        """Commit the version; return the bytes by which the store grew."""
        before = measure.disk_usage(self._root)
        measure.mstore(self._root, "commit", version, "-M", MODEL, "-m", version.name)
        entry = Store(self._root).state(MODEL).entries()[-1]
        self.weights = entry.mapping("sizes")["parameters"]
        return measure.disk_usage(self._root) - before


def report(work: Path, histories: Histories) -> str:
    """Return a table per history, and one of single versions."""
    parts = []
    for what, versions in histories.chains().items():
        parts.append(f"### {what}\n\n{_chain(work / 'size', versions)}")
    single = histories.single()
    if single:
        rows = [_alone(work / "size", what, path) for what, path in single.items()]
        head = ("one version", "raw", "zstd -3", "planes + zstd", _OURS, f"{_OURS}, bits/weight")
        parts.append(f"### Models alone\n\n{measure.table(head, rows)}")
    return "\n\n".join(parts)


def _chain(root: Path, versions: Sequence[Path]) -> str:
    ours = Ours(root)
    ways: dict[str, Peer] = {
        "a copy each": Copies(),
        "whole files (as git-lfs, DVC)": Files(pack=False),
        "zstd -3 per file": Files(pack=True),
        "XOR with parent + planes + zstd (as BitX)": XorPlanes(),
        _OURS: ours,
    }
    added = {name: [way.add(version) for version in versions] for name, way in ways.items()}
    whole = sum(added["a copy each"])
    rows = []
    for name, sizes in added.items():
        later = sum(sizes[1:]) * 8 / (len(sizes) - 1) / ours.weights if len(sizes) > 1 else 0.0
        cells = [f"{size / 1e6:.1f}" for size in sizes]
        rows.append((name, *cells, f"{100 * sum(sizes) / whole:.1f} %", f"{later:.2f}"))
    shutil.rmtree(root)
    names = [f"{version.name}, MB" for version in versions]
    return measure.table(("store", *names, "of copies", "bits/weight, later versions"), rows)


def _alone(root: Path, what: str, path: Path) -> tuple[str, ...]:
    """Return the row of a file that is committed by itself."""
    version = root.with_name("alone")
    shutil.rmtree(version, ignore_errors=True)
    version.mkdir(parents=True)
    shutil.copyfile(path, version / path.name)
    ours = Ours(root)
    ways: tuple[Peer, ...] = (Copies(), Files(pack=True), XorPlanes(), ours)
    sizes = [way.add(version) for way in ways]
    shutil.rmtree(version)
    shutil.rmtree(root)
    cells = [f"{size / 1e6:.1f} MB" for size in sizes]
    return what, *cells, f"{sizes[-1] * 8 / ours.weights:.2f}"
