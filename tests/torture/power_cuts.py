"""Cuts the power for real: a disk is cloned at a random moment under load, and the clone looked at.

    python tests/torture/power_cuts.py                      mstore, 20 cuts on ext4 and 20 on xfs
    python tests/torture/power_cuts.py --tool unsynced      the same without its syncs: it must lose
    python tests/torture/power_cuts.py --tool git --cuts 5  git in the same rig
    python tests/torture/power_cuts.py --tool dvc --dvc PATH

The disk is a file on an xfs with reflinks, mounted through a loop device. A reflink of that file is
what the disk had been given at that moment, and nothing of what was still in memory: what is left
when the plug is pulled. Whatever was acknowledged before that must be in the clone.

Needs root, loop devices, mkfs.xfs and mkfs.ext4. Everything is unmounted again, whatever happens.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

TOOLS = ("mstore", "unsynced", "git", "dvc")
"""What can be run; "unsynced" is mstore whose syncs do nothing, to see that the rig notices."""

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@dataclass
class Tally:
    """What some cuts showed: how many, how much was acknowledged before them, how much is gone."""

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    broken: int = 0


def missing() -> str:
    """Return why the rig cannot be built here, "" if it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "only root may mount"
    for program in ("mkfs.xfs", "mkfs.ext4", "mount", "losetup"):
        if shutil.which(program) is None:
            return f"needs {program} on PATH"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    return ""


# --- the rig


@contextmanager
def mounted(image: Path, point: Path, options: str = "loop") -> Iterator[Path]:
    """Mount an image within the block."""
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", options, image, point], check=True)
    try:
        yield point
    finally:
        for _ in range(50):
            if subprocess.run(["umount", point], **QUIET).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", point], check=False)


def image(path: Path, kind: str, size: str) -> Path:
    """Make an image of a file system."""
    path.unlink(missing_ok=True)
    subprocess.run(["truncate", "-s", size, path], check=True)
    force = "-F" if kind == "ext4" else "-f"
    subprocess.run([f"mkfs.{kind}", force, "-q", path], check=True, **QUIET)
    return path


def cut(outer: Path, kind: str, seconds: float, tool: str, dvc: str) -> Tally:
    """Run a tool on a new disk, cut the power after ``seconds`` of work, and count."""
    disk, snapshot = image(outer / "disk.img", kind, "1G"), outer / "snapshot.img"
    log = outer.parent / "acknowledged"
    log.write_bytes(b"")
    with mounted(disk, outer.parent / "inner") as inner:
        command = [sys.executable, __file__, "--work", str(inner), "--log", str(log)]
        worker = subprocess.Popen([*command, "--tool", tool, "--dvc", dvc], start_new_session=True)
        try:
            deadline = time.monotonic() + 60
            while not log.stat().st_size and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(seconds)
            known = log.read_text(encoding="utf-8").splitlines()
            snapshot.unlink(missing_ok=True)
            subprocess.run(["cp", "--reflink=always", disk, snapshot], check=True)
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
    # an xfs and its clone have one name; and each replays its own journal
    options = "loop,nouuid" if kind == "xfs" else "loop"
    with mounted(snapshot, outer.parent / "inner", options) as clone:  # as paths are recorded
        rows = [json.loads(row) for row in known]
        check = {"git": check_git, "dvc": check_dvc}.get(tool, check_mstore)
        lost, broken = check(clone, rows)
    return Tally(1, len(rows), lost, broken)


def series(tool: str, kind: str, cuts: int, seed: int, dvc: str) -> Tally:
    """Cut the power again and again."""
    chance = random.Random(seed)
    total = Tally()
    scratch = Path(tempfile.mkdtemp(prefix="mstore-power-"))
    try:
        with mounted(image(scratch / "outer.img", "xfs", "6G"), scratch / "outer") as outer:
            for _ in range(cuts):
                one = cut(outer, kind, chance.uniform(2, 8), tool, dvc)
                total.cuts += 1
                total.acknowledged += one.acknowledged
                total.lost += one.lost
                total.broken += one.broken
                print(f"{tool} on {kind}: {one}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return total


# --- what runs there


def work(tool: str, directory: Path, log: Path, dvc: str) -> None:
    """Do what a tool is for until killed; every acknowledgement is a line of ``log``."""
    if tool == "unsynced":
        from modelstore import disk
        from tests.faults import Unsynced

        disk.calls = Unsynced()
    use = {"git": use_git, "dvc": use_dvc}.get(tool, use_mstore)
    with log.open("a", encoding="utf-8") as out:
        for row in use(directory, dvc):
            out.write(json.dumps(row) + "\n")
            out.flush()


def use_mstore(directory: Path, _: str) -> Iterator[dict[str, str]]:
    """Commit, make ACTIVE and check out, again and again."""
    from modelstore.names import ModelName
    from modelstore.ops.checkout import checkout
    from modelstore.ops.commit import CommitOptions, commit
    from modelstore.ops.pointer import set_active
    from modelstore.ops.resolve import resolve
    from modelstore.store import create
    from tests.builders import safetensors_bytes
    from tests.models import weights

    store = create(directory / "store")
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(100_000):
            tensors = weights(1, step=2e-5 * number, dtype="BF16")
            (Path(scratch) / "model.safetensors").write_bytes(safetensors_bytes(tensors))
            done = commit(store, Path(scratch), ModelName("m"), CommitOptions(message=str(number)))
            yield {"version": done.version, "id": done.id}
            resolved = resolve(store, f"m@{done.version}")
            set_active(store, resolved)
            yield {"active": done.version}
            checkout(store, resolved, output=directory / "out")
            yield {"out": done.id}


def check_mstore(directory: Path, rows: list[dict[str, str]]) -> tuple[int, int]:
    """Return how many acknowledgements are not kept, and how many versions are broken."""
    from modelstore.errors import StoreError
    from modelstore.names import ModelName, parse_version
    from modelstore.ops.resolve import Resolved
    from modelstore.ops.verify import verify
    from modelstore.ops.working import checkout_at
    from modelstore.store import Store

    if not rows:
        return 0, 0
    try:
        store = Store(directory / "store")
        state = store.state(ModelName("m"))
    except StoreError:
        return len(rows), 1
    entries = {str(entry.version): entry for entry in state.entries()}
    ids = {version: entry.id for version, entry in entries.items()}
    lost = sum("version" in row and ids.get(row["version"]) != row["id"] for row in rows)
    active = [row["active"] for row in rows if "active" in row]
    lost += bool(active) and parse_version(state.active) < parse_version(active[-1])
    out = checkout_at(store, directory / "out")
    told = [row["out"] for row in rows if "out" in row]
    lost += bool(told) and (out is None or out.id not in {e.id for e in entries.values()})
    broken = [
        str(entry.version)
        for entry in entries.values()
        if any(p.directory is None for p in verify(store, Resolved(ModelName("m"), entry)).problems)
    ]
    return lost, len(broken)


def use_git(directory: Path, _: str) -> Iterator[dict[str, str]]:
    """Add and commit a file of 50 KB, again and again, as git is set up by default."""
    os.chdir(directory)
    run = lambda *words: subprocess.run(["git", *words], check=True, capture_output=True, text=True)  # noqa: E731
    run("init", "-q", ".")
    run("config", "user.email", "a@b")
    run("config", "user.name", "a")
    for number in range(100_000):
        data = random.Random(number).randbytes(50_000)
        Path("model.bin").write_bytes(data)
        run("add", "model.bin")
        run("commit", "-q", "-m", str(number))
        name = run("rev-parse", "HEAD").stdout.strip()
        yield {"commit": name, "sha256": hashlib.sha256(data).hexdigest()}


def check_git(directory: Path, rows: list[dict[str, str]]) -> tuple[int, int]:
    """Return how many commits are not whole, and whether git fsck complains."""
    lost = 0
    for row in rows:
        word = f"{row['commit']}:model.bin"
        shown = subprocess.run(
            ["git", "-C", directory, "cat-file", "blob", word], capture_output=True
        )
        lost += hashlib.sha256(shown.stdout).hexdigest() != row["sha256"]
    return lost, int(subprocess.run(["git", "-C", directory, "fsck"], **QUIET).returncode != 0)


def use_dvc(directory: Path, dvc: str) -> Iterator[dict[str, str]]:
    """Add a file of 50 KB, again and again."""
    os.chdir(directory)
    os.environ["DVC_NO_ANALYTICS"] = "1"
    subprocess.run([dvc, "init", "-q", "--no-scm"], check=True, **QUIET)
    for number in range(100_000):
        data = random.Random(number).randbytes(50_000)
        Path("model.bin").write_bytes(data)
        subprocess.run([dvc, "add", "-q", "model.bin"], check=True, **QUIET)
        yield {"md5": hashlib.md5(data).hexdigest()}


def check_dvc(directory: Path, rows: list[dict[str, str]]) -> tuple[int, int]:
    """Return how many files are not in the cache as they were added, and how many of them it has."""
    lost = broken = 0
    for row in rows:
        path = directory / ".dvc/cache/files/md5" / row["md5"][:2] / row["md5"][2:]
        data = path.read_bytes() if path.exists() else None
        lost += data is None or hashlib.md5(data).hexdigest() != row["md5"]
        broken += data is not None and hashlib.md5(data).hexdigest() != row["md5"]
    return lost, broken


def main() -> None:
    """Cut the power as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tool", choices=TOOLS, default="mstore")
    parser.add_argument("--dvc", default="dvc", help="the program")
    parser.add_argument("--cuts", type=int, default=20, help="on each file system")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.tool, options.work, options.log, options.dvc)
        return
    reason = missing()
    if reason:
        sys.exit(f"no power was cut: {reason}")
    failed = False
    for kind in ("ext4", "xfs"):
        total = series(options.tool, kind, options.cuts, options.seed, options.dvc)
        print(f"{options.tool} on {kind}: {total}")
        failed |= options.tool == "mstore" and bool(total.lost or total.broken)
    sys.exit(failed)


if __name__ == "__main__":
    main()
