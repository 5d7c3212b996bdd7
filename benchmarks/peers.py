"""Other stores of versions, each driven by its own commands, and ours through the same door.

Every peer gets an empty directory, every version of a history in order, and then gives the last and
the first version back. A working copy that a peer insists on is not counted for its store, and
putting the files there is not part of the time. Options are each peer's defaults unless said.
What is timed is the command as its user runs it, start-up included.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

import measure
from measure import Cost


class Peer(Protocol):
    """A way of storing versions, in one directory."""

    @property
    def name(self) -> str:
        """What tables call it, options included."""
        ...

    def version(self) -> str:
        """Return which release is measured; "" where it is not installed."""
        ...

    def create(self, root: Path) -> None:
        """Make an empty store in the directory ``root``."""
        ...

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Take a version, whose predecessor came from ``parent``."""
        ...

    def checkout(self, version: str, target: Path) -> Cost:
        """Write the files of a version, into the empty directory ``target`` where that can be."""
        ...

    def found(self, target: Path) -> Path:
        """Return the directory that holds what was checked out to ``target``."""
        ...

    def stored(self) -> int:
        """Return the bytes of the store."""
        ...


class Command:
    """What the peers have in common: a directory, and a store in it.

    Attributes:
        name: what tables call it.
        program: what must be on PATH.
    """

    name = ""
    program = ""

    def __init__(self) -> None:
        self.root = Path()

    def version(self) -> str:
        """Return the first line of what ``program --version`` prints."""
        if shutil.which(self.program) is None:
            return ""
        return measure.answer(self.program, "--version").partition("\n")[0].strip()

    def create(self, root: Path) -> None:
        """Remember the directory."""
        self.root = root

    @property
    def store(self) -> Path:
        """Where the bytes are that count."""
        return self.root / "store"

    def found(self, target: Path) -> Path:
        """Return ``target``: most peers write where they are told."""
        return target

    def stored(self) -> int:
        """Return the bytes of all files of the store."""
        return measure.disk_usage(self.store)


class Copies(Command):
    """A directory per version, on the disk when the command ends."""

    name = "cp + sync"
    program = "cp"

    def create(self, root: Path) -> None:
        """Make the directory of the copies."""
        super().create(root)
        self.store.mkdir()

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Copy the directory, and sync."""
        return _copy(version, self.store / version.name)

    def checkout(self, version: str, target: Path) -> Cost:
        """Copy it back, and sync."""
        target.rmdir()
        return _copy(self.store / version, target)


def _copy(source: Path, target: Path) -> Cost:
    return measure.run("sh", "-c", 'cp -r "$0" "$1" && sync', source, target)


class Zstd(Command):
    """A directory per version, each file through zstd."""

    name = "zstd -3"
    program = "zstd"
    _PACK = 'cd "$0" && for f in *; do zstd -3 -q "$f" -o "$1/$f.zst" || exit 1; done'
    _UNPACK = 'cd "$0" && for f in *; do zstd -d -q "$f" -o "$1/${f%.zst}" || exit 1; done'

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Pack every file."""
        target = self.store / version.name
        target.mkdir(parents=True)
        return measure.run("sh", "-c", self._PACK, version, target)

    def checkout(self, version: str, target: Path) -> Cost:
        """Unpack every file."""
        return measure.run("sh", "-c", self._UNPACK, self.store / version, target)


class WorkingCopy(Command):
    """A peer that takes versions from, and gives them back into, one directory."""

    @property
    def tree(self) -> Path:
        """The working copy."""
        return self.root / "tree"

    def place(self, version: Path) -> None:
        """Replace the model in the working copy."""
        shutil.rmtree(self.tree / "model", ignore_errors=True)
        shutil.copytree(version, self.tree / "model", copy_function=shutil.copyfile)
        measure.settle()

    def clear(self, target: Path) -> None:
        """Take the model out of the working copy, so that it has to be written anew."""
        shutil.rmtree(self.tree / "model", ignore_errors=True)
        target.rmdir()
        measure.settle()

    def found(self, target: Path) -> Path:
        """Return the model in the working copy."""
        return self.tree / "model"


class GitLfs(WorkingCopy):
    """Git with LFS for the weights: add, commit; checkout."""

    name = "git-lfs"
    program = "git-lfs"

    def create(self, root: Path) -> None:
        """Make a repository, with a configuration of its own."""
        super().create(root)
        self.tree.mkdir()
        self._environment = {
            "HOME": str(root),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }
        for words in (
            ("init", "-q"),
            ("config", "user.name", "bench"),
            ("config", "user.email", "bench@localhost"),
            ("config", "gc.auto", "0"),
            ("lfs", "install", "--local"),
            ("lfs", "track", "*.safetensors", "*.bin"),
        ):
            self._git(*words)

    @property
    def store(self) -> Path:
        """The repository."""
        return self.tree / ".git"

    def _git(self, *words: str) -> Cost:
        return measure.run("git", *words, environment=self._environment, directory=self.tree)

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Add and commit, and tag."""
        self.place(version)
        script = f"git add -A && git commit -q -m {version.name} && git tag {version.name}"
        return measure.run("sh", "-c", script, environment=self._environment, directory=self.tree)

    def checkout(self, version: str, target: Path) -> Cost:
        """Check the tag out."""
        self.clear(target)
        return self._git("checkout", "-q", "-f", version)


class Dvc(WorkingCopy):
    """DVC without Git; its pointer files are kept by hand."""

    name = "DVC"

    def __init__(self, venv: Path) -> None:
        super().__init__()
        self.program = str(venv / "bin" / "dvc")
        self._environment = {"DVC_NO_ANALYTICS": "1"}

    @property
    def store(self) -> Path:
        """The cache."""
        return self.tree / ".dvc"

    def create(self, root: Path) -> None:
        """Make a repository without Git, with all that it keeps for itself below ``root``."""
        super().create(root)
        self.tree.mkdir()
        for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
            self._environment[f"DVC_{name}_DIR"] = str(root / name)
        self._dvc("init", "-q", "--no-scm")

    def _dvc(self, *words: str) -> Cost:
        environment, directory = self._environment, self.tree
        return measure.run(self.program, *words, environment=environment, directory=directory)

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Add the directory."""
        self.place(version)
        cost = self._dvc("add", "-q", "model")
        shutil.copyfile(self.tree / "model.dvc", self.root / f"{version.name}.dvc")
        return cost

    def checkout(self, version: str, target: Path) -> Cost:
        """Check the pointer file out."""
        self.clear(target)
        shutil.copyfile(self.root / f"{version}.dvc", self.tree / "model.dvc")
        return self._dvc("checkout", "-q", "--force")


class Restic(Command):
    """restic with its default compression; no cache of an earlier run."""

    name = "restic"
    program = "restic"

    def version(self) -> str:
        """Return the first line of ``restic version``."""
        return measure.answer("restic", "version").strip() if shutil.which("restic") else ""

    def create(self, root: Path) -> None:
        """Make a repository."""
        super().create(root)
        self._environment = {
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": str(self.store),
            "RESTIC_CACHE_DIR": str(root / "cache"),
        }
        measure.run("restic", "-q", "init", environment=self._environment)

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Back the directory up."""
        words = ("-q", "backup", "--tag", version.name, ".")
        return measure.run("restic", *words, environment=self._environment, directory=version)

    def checkout(self, version: str, target: Path) -> Cost:
        """Restore the snapshot."""
        words = ("-q", "restore", "latest", "--tag", version, "--target", target)
        return measure.run("restic", *words, environment=self._environment)


class Borg(Command):
    """borg with zstd -3, which serves weights far better than its default."""

    name = "borg, zstd,3"
    program = "borg"

    def create(self, root: Path) -> None:
        """Make a repository without encryption."""
        super().create(root)
        self._environment = {
            "BORG_BASE_DIR": str(root / "base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        words = ("init", "-e", "none", self.store)
        measure.run("borg", *words, environment=self._environment)

    def commit(self, version: Path, parent: Path | None) -> Cost:
        """Create an archive."""
        words = ("create", "--compression", "zstd,3", f"{self.store}::{version.name}", ".")
        return measure.run("borg", *words, environment=self._environment, directory=version)

    def checkout(self, version: str, target: Path) -> Cost:
        """Extract the archive."""
        words = ("extract", f"{self.store}::{version}")
        return measure.run("borg", *words, environment=self._environment, directory=target)
