"""Where the peers are installed: an environment of their own, beside what the system has.

Python's peers go into ``build/bench/venv``. The others are programs of the system: where they are
missing they are installed with apt if this runs as root, and else reported as not installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import measure
from delta_peers import BitX, Lmz, Moonclip, Mstore
from peers import Borg, Copies, Dvc, GitLfs, Peer, Restic, Zstd
from weights import History

PYTHON_PEERS = ("lmzip==1.3.0", "moonclip==0.3.1", "dvc==3.67.1")
SYSTEM_PEERS = {"git-lfs": "git-lfs", "restic": "restic", "borg": "borgbackup", "zstd": "zstd"}
"""Programs, and the packages of Debian that they are in."""


def prepare(work: Path) -> Path:
    """Install what is missing and can be; return the environment of the Python peers."""
    venv = work / "venv"
    done = venv / "installed.txt"
    if not done.exists() or done.read_text() != "\n".join(PYTHON_PEERS):
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = (venv / "bin" / "pip", "install", "--quiet", "--no-warn-script-location")
        for requirement in PYTHON_PEERS:
            if subprocess.run([*pip, requirement], check=False).returncode:
                print(f"... {requirement} could not be installed", file=sys.stderr)
        done.write_text("\n".join(PYTHON_PEERS))
    _install_system_peers()
    return venv


def _install_system_peers() -> None:
    missing = [package for name, package in SYSTEM_PEERS.items() if shutil.which(name) is None]
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if missing and root and shutil.which("apt-get"):
        command = ["apt-get", "install", "--yes", "--quiet=2", *missing]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    elif missing:
        print(f"... not installed: {' '.join(missing)}", file=sys.stderr)


def all_peers(work: Path, history: History) -> list[Peer]:
    """Return every peer, and mstore in all of its ways that fit; for the large model, in one."""
    venv = prepare(work)
    whole = (Copies(), GitLfs(), Dvc(venv), Restic(), Borg(), Zstd())
    ours = [BitX("bytes"), Mstore()] if history.name == "big" else by_size(history)
    return [*whole, Lmz(venv), Moonclip(venv), *ours]


def by_size(history: History) -> list[Peer]:
    """Return those that the targets compare: BitX, and mstore in all of its ways."""
    ways: list[Peer] = [BitX("bytes"), BitX("fields"), Mstore(), Mstore(repacked=True)]
    if history.adapter:
        ways.append(Mstore(adapter=history.adapter))
    return ways


def releases(peers: list[Peer]) -> str:
    """Return which release of each was measured."""
    rows = [(peer.name, peer.version() or "not installed") for peer in peers]
    return measure.table(("", "release"), rows)
