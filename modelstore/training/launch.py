"""Several processes train together: torchrun starts them, and they meet in the run's directory.

The process that the user started conducts: it starts torchrun, shows what the first of the
processes measures, passes on the request to stop, and commits the result. The first process keeps
the run; none of them knows the registry.
They are in a session of their own, so that Ctrl-C reaches the conductor only: torchrun would end
them all before they could save anything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from modelstore import disk, errors
from modelstore.canonical import line, parse_mapping
from modelstore.errors import IntegrityError, StoreError
from modelstore.store import Store
from modelstore.training.engine import Engine, result_of
from modelstore.training.finetune import PATIENCE, resolve_device
from modelstore.training.metrics import read, step_of
from modelstore.training.options import Step, TrainOptions, TrainResult
from modelstore.training.plan import plan_from
from modelstore.training.runs import Run, open_run
from modelstore.training.start import lay_out

_POLL = 0.3
"""Seconds between two looks at what the processes did."""

_GRACE = 20
"""Seconds that processes have to end before they are killed."""

_SHOWN = 5
"""Lines of what they said last that an error shows."""


def processes_for(options: TrainOptions, device: str) -> int:
    """Return how many processes train: as many as there are GPUs, unless told otherwise."""
    import torch

    if options.processes:
        return options.processes
    return max(1, torch.cuda.device_count()) if device == "cuda" else 1


def train_together(
    store: Store,
    run: Run,
    count: int,
    watch: Callable[[Step], None],
    stopping: Callable[[], bool],
) -> TrainResult:
    """Train in ``count`` processes, and return the result of the first.

    `Engine.prepare` was called; what they start from is laid out.

    Raises:
        StoreError: what one of them raised, or it died without a word.
    """
    shown = max((int(row["step"]) for row in read(run.metrics)), default=0)
    with _started(store, run, count) as (process, said):
        while process.poll() is None:
            if stopping() and not run.stop.exists():
                disk.replace(run.stop, b"")
            shown = _show(run, shown, watch)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL)
    _show(run, shown, watch)
    _raise_failure(run)
    result = result_of(run)
    if process.returncode or result is None:
        words = "; ".join(list(said)[-_SHOWN:])
        raise StoreError(f"a process of the training died ({words})", f"go on: {run.command}")
    return result


def _show(run: Run, shown: int, watch: Callable[[Step], None]) -> int:
    """Report the steps after number ``shown``; return the last that there is."""
    for row in read(run.metrics):
        if int(row["step"]) > shown:
            shown = int(row["step"])
            watch(step_of(row))
    return shown


@contextmanager
def _started(
    store: Store, run: Run, count: int
) -> Iterator[tuple[subprocess.Popen[str], deque[str]]]:
    """Let the processes run for the length of the block; none of them outlives it."""
    words = ["--standalone", "--nnodes=1", f"--nproc-per-node={count}"]
    target = ["-m", __name__, str(store.root), run.id, str(count), str(os.getpid())]
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *words, *target],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    said: deque[str] = deque(maxlen=100)
    listener = threading.Thread(target=_listen, args=(process.stdout, said), daemon=True)
    listener.start()
    try:
        yield process, said
    finally:
        _end(process)
        listener.join(_GRACE)
        if process.stdout is not None:
            process.stdout.close()


def _listen(stream: IO[str] | None, said: deque[str]) -> None:
    for words in stream or ():
        if words.strip():
            said.append(words.strip())


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    process.terminate()  # torchrun ends the others
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)  # the session that was made for them
        else:
            process.kill()
        process.wait()


def _raise_failure(run: Run) -> None:
    """Raise what one of the processes raised, if it said so."""
    if not run.failure.is_file():
        return
    with disk.explained(run.failure, "read"):
        value = parse_mapping(run.failure.read_bytes(), f"'{run.failure}'")
    kind = getattr(errors, str(value.get("kind")), StoreError)
    if not (isinstance(kind, type) and issubclass(kind, StoreError)):
        raise IntegrityError(f"'{run.failure}' names no error")
    raise kind(str(value.get("message")), str(value.get("hint")))


# --- in each of the processes


def main(words: list[str]) -> None:
    """Be one of the processes.

    Args:
        words: the store's directory, the run, how many processes there are, and the number of the
            one that conducts.

    Raises:
        StoreError: the training failed; the run's directory says so too.
    """
    store = Store(Path(words[0]))
    run = open_run(store, words[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the conductor's
    try:
        _work(store, run, count=int(words[2]), conductor=int(words[3]))
    except StoreError as error:
        _note_failure(run, error)
        raise


def _work(store: Store, run: Run, *, count: int, conductor: int) -> None:
    import torch

    # torchrun gives one thread to each
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    plan = plan_from(store, run.value()["plan"])
    base = lay_out(store, plan.start, run.path, _silent)
    with _group(resolve_device(plan.options.device)) as rank:
        leads = rank == 0

        def stopping() -> bool:
            """Tell whether to stop: on request, and when nobody is there to commit the result."""
            return leads and (run.stop.exists() or not _lives(conductor))

        with run.held_by_worker() if leads else nullcontext():
            engine = Engine(store, run, plan, base)
            engine.train(_ignore, stopping, engine.recall(), leads=leads, processes=count)


@contextmanager
def _group(device: str) -> Iterator[int]:
    """Meet the other processes for the length of the block; return which of them this is."""
    from torch import distributed

    backend = "gloo" if device == "cpu" else "nccl"
    distributed.init_process_group(backend, timeout=timedelta(seconds=PATIENCE))
    try:
        yield distributed.get_rank()
    finally:
        distributed.destroy_process_group()


def _lives(number: int) -> bool:
    """Tell whether there is a process of that number."""
    if sys.platform == "win32":
        return True  # Windows has no way of asking without touching
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _note_failure(run: Run, error: StoreError) -> None:
    value = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    with suppress(FileExistsError, StoreError):  # another one was faster
        disk.create(run.failure, line(value).encode("utf-8"))


def _ignore(_: Any) -> None:
    return None


def _silent(stage: str, done: int, total: int) -> None:
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
