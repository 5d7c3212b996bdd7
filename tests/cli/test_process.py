"""What only a process of its own can show: signals, pipes, permissions, a full disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelstore import locks
from modelstore.ops.init import init
from tests.cli.program import command, environment, run, spawn
from tests.models import files_of, write_model

POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX signals, pipes and permissions")
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def test_python_m_is_the_same_program(looked_at: Path) -> None:
    """`python -m modelstore` prints and exits as mstore does."""
    for words in (("log", "--oneline"), ("log", "v9.9"), ("log", "--nope", "--json")):
        assert spawn(*words) == run(*words)


@POSIX
@pytest.mark.parametrize(
    "words", [("log",), ("list", "--json"), ("show", "v1.0:model.safetensors")]
)
def test_a_reader_that_goes_away_is_no_error(looked_at: Path, words: tuple[str, ...]) -> None:
    """`mstore log | head -0` ends quietly, as git does: exit code 141."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command(*words),
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        env=environment(),
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@POSIX
@pytest.mark.parametrize(
    ("number", "code", "said", "flag"),
    [
        (signal.SIGINT, 130, "interrupted", ()),
        (signal.SIGINT, 130, "interrupted", ("--json",)),
        (signal.SIGTERM, 143, "stopped by a signal", ()),
        (signal.SIGHUP if os.name == "posix" else 1, 129, "stopped by a signal", ("--json",)),
    ],
)
def test_a_signal_while_waiting_for_the_lock(
    place: Path, number: signal.Signals, code: int, said: str, flag: tuple[str, ...]
) -> None:
    """Exit code 128 and the signal's, a few words, nothing committed, and nothing left behind."""
    write_model(place / "three", step=2e-3)
    meta = place / "tuned_models/.mstore"
    with locks.locked(meta / "locks/store.lock"):
        before = files_of(place / "tuned_models/llama_1b")
        process = subprocess.Popen(
            command("commit", "three", *flag),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        _wait_until_it_waits(process, meta)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
    assert files_of(place / "tuned_models/llama_1b") == before
    assert not [path for path in (meta / "tmp").iterdir() if path.is_dir()]
    assert run("commit", "three").code == 0


@POSIX
def test_a_signal_that_is_ignored_stays_ignored(place: Path) -> None:
    """Under nohup a closed terminal ends nothing."""
    code = (
        "import os, signal, sys, click; from modelstore.cli import failures\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "failures.run(click.command()(lambda: os.kill(os.getpid(), signal.SIGHUP)), [])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment())
    assert done.returncode == 0


def _wait_until_it_waits(process: subprocess.Popen[str], meta: Path) -> None:
    """Wait until the process wants to stage its blobs, which it begins under the lock."""
    for _ in range(600):
        assert process.poll() is None
        if list((meta / "tmp").glob("*.lock")):
            break
        time.sleep(0.1)
    time.sleep(0.5)


def _unprivileged() -> list[str]:
    """Return what runs a command without root's right to write anywhere."""
    if not IS_ROOT:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@POSIX
def test_a_directory_that_may_not_be_written_to(place: Path) -> None:
    """Exit code 1, with the path and where to look; reading goes on."""
    store = place / "tuned_models"
    prefix = _unprivileged()
    closed = [store, *(path for path in store.rglob("*") if path.is_dir())]
    modes = {path: path.stat().st_mode for path in closed}
    for path in closed:
        path.chmod(0o555)
    try:
        results = {
            words: subprocess.run(
                [*prefix, *command(*words)],
                capture_output=True,
                text=True,
                check=False,
                env=environment(),
            )
            for words in (("note", "v1.0", "x"), ("checkout", "v1.0"), ("log",), ("verify",))
        }
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    for words, done in results.items():
        writes = words[0] in ("note", "checkout")
        assert done.returncode == (1 if writes else 0), done.stderr
        assert ("Permission denied" in done.stderr) == writes
        assert ("Hint: check the permissions" in done.stderr) == writes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    if not IS_ROOT or not sys.platform.startswith("linux"):
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "small"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mounting, check=False).returncode:
        pytest.skip("root may not mount here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_the_disk_is_full(small_disk: Path, tmp_path: Path) -> None:
    """Exit code 8, nothing is committed, and what was staged is gone."""
    root = small_disk / "tuned_models"
    init(root)
    model = write_model(tmp_path / "model", files={"noise.bin": os.urandom(8 << 20)})
    done = run("-C", root, "commit", model, "-M", "llama_1b")
    assert done.code == 8
    assert "Hint: " in done.err
    assert run("-C", root, "log").out == ""
    assert not [path for path in (root / ".mstore/tmp").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    "words", [("log",), ("list",), ("--help",), ("help", "train"), ("active",)]
)
def test_looking_loads_nothing_slow(looked_at: Path, words: tuple[str, ...]) -> None:
    """Looking at a history with versions in it loads nothing to compute or to lock with."""
    code = (
        "import sys; from modelstore.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(sorted({'numpy', 'numba', 'torch', 'filelock', 'rich', "
        "'obstore'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "[]"
