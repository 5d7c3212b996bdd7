"""Stores that know one version of a tensor from another: three peers, and mstore itself."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import measure
from measure import Cost
from peers import Command

HERE = Path(__file__).resolve().parent


class BitX(Command):
    """`bitx.py`: the published state of the art, rebuilt.

    Args:
        split: one of `bitx.SPLITS`.
    """

    def __init__(self, split: str) -> None:
        super().__init__()
        self.name = f"BitX, {split}"
        self._split = split

    def version(self) -> str:
        """Say that it is ours."""
        return "rebuilt in benchmarks/bitx.py"

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Commit against the parent's directory."""
        return self._run("commit", self.store, version, *(("--parent", parent) if parent else ()))

    def checkout(self, version: str, target: Path) -> Cost:
        """Check out, along the chain."""
        return self._run("checkout", self.store, version, target)

    def _run(self, *words: object) -> Cost:
        return measure.run(sys.executable, HERE / "bitx.py", *words, "--split", self._split)

    def stored(self) -> int:
        """Return the bytes of all planes; an index is not counted."""
        return sum(path.stat().st_size for path in self.store.glob("*.planes"))


class Lmz(Command):
    """lmzip: one archive that versions are appended to."""

    name = "lmzip"

    def __init__(self, venv: Path) -> None:
        super().__init__()
        self.program = str(venv / "bin" / "lmz")

    def create(self, root: Path) -> None:
        """Make the directory of the archive."""
        super().create(root)
        self.store.mkdir()

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Compress the first version, append the others; members carry the version's name."""
        stage = self.root / f"stage-{version.name}"
        shutil.copytree(version, stage / version.name, copy_function=_link_or_copy)
        archive = self.store / "model.lmz"
        words = ("append", "-q", archive, stage)
        if parent is None:
            words = ("compress", "-q", stage, archive)
        cost = measure.run(self.program, *words)
        self._names = sorted(path.name for path in version.iterdir())
        shutil.rmtree(stage)
        return cost

    def checkout(self, version: str, target: Path) -> Cost:
        """Extract one member after the other: an archive gives back one file, or all versions."""
        script = (
            'lmz=$0; archive=$1; version=$2; target=$3; shift 3; for f in "$@"; do '
            '"$lmz" extract -q "$archive" "$version/$f" "$target/$f" || exit 1; done'
        )
        archive = self.store / "model.lmz"
        words = (self.program, archive, version, target, *self._names)
        return measure.run("sh", "-c", script, *words)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class Moonclip(Command):
    """moonclip through a program of ours: it is a library, and takes tensors instead of files."""

    name = "moonclip"

    def __init__(self, venv: Path) -> None:
        super().__init__()
        self._python = venv / "bin" / "python"

    def version(self) -> str:
        """Return the version of the library."""
        code = "import importlib.metadata as m; print('moonclip', m.version('moonclip'))"
        return measure.answer(self._python, "-c", code).strip()

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Save the tensors, and everything else as bytes."""
        return self._run("save", version.name, version)

    def checkout(self, version: str, target: Path) -> Cost:
        """Load the tensors and write the files."""
        return self._run("load", version, target)

    def _run(self, *words: object) -> Cost:
        return measure.run(self._python, HERE / "moonclip_files.py", self.store, *words)


class Mstore(Command):
    """mstore: commit and checkout by its command line.

    Args:
        adapter: handed over with the last version where the history has one.
        repacked: whether `repack --effort max` follows the last commit.
    """

    def __init__(self, *, adapter: Path | None = None, repacked: bool = False) -> None:
        super().__init__()
        self.name = "**mstore**"
        if adapter:
            self.name += ", adapter given"
        if repacked:
            self.name += ", then `repack --effort max`"
        self._adapter = adapter
        self._repacked = repacked

    def version(self) -> str:
        """Return what ``mstore --version`` says; "" where a command that it takes is missing."""
        if self._adapter and "--adapter" not in measure.answer(*measure.MSTORE, "commit", "--help"):
            return ""
        if self._repacked and not measure.answer(*measure.MSTORE, "repack", "--help"):
            return ""
        return measure.answer(*measure.MSTORE, "--version").strip()

    def create(self, root: Path) -> None:
        """Make a store."""
        super().create(root)
        measure.run(*measure.MSTORE, "init", self.store)

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Commit the directory."""
        adapter = ("--adapter", self._adapter) if self._adapter and parent else ()
        words = ("commit", version, "-M", "line", "-m", version.name, *adapter)
        return measure.mstore(self.store, *words)

    def finish(self) -> Cost | None:
        """Repack, if that is wanted; return what it cost."""
        if not self._repacked:
            return None
        return measure.mstore(self.store, "repack", "--effort", "max")

    def checkout(self, version: str, target: Path) -> Cost:
        """Check the version out elsewhere."""
        return measure.mstore(self.store, "checkout", f"line@{version}", "-o", target)
