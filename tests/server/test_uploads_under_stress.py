"""Uploads while something goes wrong: a full disk, others who change the store, kills, nonsense."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.ops.clone import clone
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.pointer import set_active
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from tests.faults import Counting, Failing, Watched, exchanged, is_change
from tests.models import write_model
from tests.server.live import TOKEN, Live, serving
from tests.server.test_uploads import API, AUTHORIZED, MODEL, Hub, large, text


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with v1.0 of a line."""
    store = create(tmp_path / "tuned_models")
    commit(store, write_model(tmp_path / "model"), MODEL, CommitOptions("first"))
    return store


def test_a_full_disk_is_said_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    """Wherever the disk runs full, the client is told; with room again, the upload is one version."""
    tuned = (write_model(tmp_path / "tuned", step=0.01) / "model.safetensors").read_bytes()
    with serving(store, token=TOKEN) as live:
        hub = Hub(store, live, tmp_path)
        counting = Counting(is_change)
        with exchanged(counting):
            hub.put(b"%d" % counting.count + tuned)
            hub.commit(text("a.json", "0"))
        versions = len(store.state(MODEL).entries())
        for step in range(1, counting.count, 3):
            data = b"%d" % step + tuned
            failing = Failing(step, errno.ENOSPC, is_change, lasting=True)
            with exchanged(failing):
                said = _upload(hub, data, str(step))
            assert said in {200, 507}
            assert _upload(hub, data, str(step)) == 200
            versions += 1  # also where it was recorded, and only telling of it failed
            assert len(store.state(MODEL).entries()) == versions
            assert hub.manifest().file(f"{step}.json") is not None
        assert fsck(store, Level.FULL).problems == ()
    assert versions > 10


def _upload(hub: Hub, data: bytes, name: str) -> int:
    """Upload a large file and a small one; return the status of the first answer that is no 200."""
    oid = hashlib.sha256(data).hexdigest()
    row = {"oid": oid, "size": len(data)}
    value = {"operation": "upload", "objects": [row], "ref": {"name": "main"}}
    answer = hub.ask(f"/mstore/{MODEL}.git/info/lfs/objects/batch", value)
    if answer.status != 200:
        return answer.status
    (found,) = answer.json["objects"]
    if "actions" in found:
        path = found["actions"]["upload"]["href"].removeprefix(hub.live.url)
        answer = hub.live.ask(path, "PUT", body=data)
        if answer.status != 200:
            return answer.status
    answer = hub.commit(large("model.safetensors", oid), text(f"{name}.json", name))
    return answer.status


def test_an_upload_goes_on_top_of_what_is_active_by_then(store: Store, tmp_path: Path) -> None:
    """Where ACTIVE moves while an upload is encoded, it is made again on top of the new one."""
    other = write_model(tmp_path / "other", files={"other.txt": "x"})
    commit(store, other, MODEL, CommitOptions("second"))

    class Moving(Watched):
        """Moves ACTIVE when the first frame is written."""

        moved = False

        def before(self, name: str, arguments: tuple[Any, ...]) -> None:
            if name == "pwrite" and threading.current_thread().name.startswith("mstore-take"):
                moved, self.moved = self.moved, True
                if not moved:
                    set_active(store, resolve(store, f"{MODEL}@v1.1"))

    with serving(store, token=TOKEN) as live, exchanged(Moving()):
        hub = Hub(store, live, tmp_path)
        first = str(hub.version("v1.0").id)[:40]
        assert hub.commit(text("new.txt", "new")).status == 200
        assert {"new.txt", "other.txt"} <= set(hub.paths())
        assert hub.manifest().parents == (hub.version("v1.1").id,)
    set_active(store, resolve(store, f"{MODEL}@v1.0"))
    with serving(store, token=TOKEN) as live, exchanged(Moving()):
        answer = Hub(store, live, tmp_path).commit(text("b.txt", "b"), parentCommit=first)
        assert (answer.status, "has changed since" in answer.json["error"]) == (412, True)


def test_a_lazy_clone_takes_uploads(store: Store, tmp_path: Path) -> None:
    """What a version needs of the one before it comes from where the store was cloned from."""
    lazy = clone(str(_pushed(store, tmp_path)), tmp_path / "lazy", lazy=True).store
    with serving(lazy, token=TOKEN) as live:
        hub = Hub(lazy, live, tmp_path)
        assert hub.commit(text("new.txt", "new")).status == 200
        data = (tmp_path / "model" / "model.safetensors").read_bytes()
        assert live.ask(f"/{MODEL}/resolve/main/model.safetensors").body == data
    assert fsck(lazy, Level.FULL).problems == ()


def _pushed(store: Store, tmp_path: Path) -> Path:
    from modelstore.ops.push import push
    from modelstore.ops.remotes import add, opened

    add(store, "origin", str(tmp_path / "remote"))
    with opened(store, "origin") as place:
        push(store, place)
    return tmp_path / "remote"


# --- nonsense

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
PATHS = st.sampled_from(["config.json", "a/b", "../x", "extra", "extra/", "", "CON", "\ud800", "A"])
ROWS = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["header", "file", "lfsFile", "deletedFile", "deletedFolder", "x"]),
        "value": st.one_of(
            VALUES,
            st.fixed_dictionaries(
                {},
                optional={
                    "path": PATHS | VALUES,
                    "content": st.sampled_from(["", "YQ==", "*"]) | VALUES,
                    "encoding": st.sampled_from(["base64", "utf-8", "x"]) | VALUES,
                    "oid": st.sampled_from(["0" * 64, ""]) | VALUES,
                    "summary": st.text(max_size=5) | VALUES,
                    "parentCommit": st.sampled_from(["", "0" * 40]) | VALUES,
                },
            ),
        ),
    }
)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of a store with one version, that many will write to."""
    root = tmp_path_factory.mktemp("nonsense")
    store = create(root / "tuned_models")
    commit(store, write_model(root / "model"), MODEL, CommitOptions("first"))
    with serving(store, token=TOKEN) as live:
        yield live


@given(st.lists(ROWS | VALUES, max_size=4), st.booleans())
@settings(max_examples=150)
def test_no_commit_is_an_internal_error(line: Live, rows: list[object], cut: bool) -> None:
    """Whatever rows a commit has, it is made, or refused by a sentence."""
    body = b"\n".join(json.dumps(row).encode() for row in rows)
    body = body[: len(body) // 2] if cut else body
    for path in (f"{API}/commit/main", f"{API}/preupload/main", f"{API}/tag/main"):
        answer = line.ask(path, "POST", AUTHORIZED, body)
        assert answer.status in {200, 400, 404, 409, 412}, answer.body
        assert answer.status == 200 or answer.json["error"]
    assert line.reports == []


# --- kills


@pytest.mark.slow
def test_kills_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    """A server is killed again and again while clients upload: what was answered is there."""
    store = create(tmp_path / "tuned_models")
    commit(store, write_model(tmp_path / "model"), MODEL, CommitOptions("first"))
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    drawn = random.Random(7)
    answered: list[tuple[str, str]] = []
    for turn in range(12):
        process, live = _start(store)
        with process:
            thread = threading.Thread(target=_keep_uploading, args=(live, turn, weights, answered))
            thread.start()
            time.sleep(drawn.uniform(0.05, 0.8))
            process.kill()
            thread.join()
        assert fsck(store).problems == ()
    assert len(answered) > 12
    state = store.state(MODEL)
    ids = {str(entry.id)[:40]: entry for entry in state.entries()}
    for commit_id, path in answered:
        assert store.manifest(MODEL, ids[commit_id]).file(path) is not None
    newest = store.manifest(MODEL, resolve(store, f"{MODEL}@ACTIVE").entry)
    assert all(newest.file(path) is not None for _, path in answered)
    assert fsck(store, Level.FULL).problems == ()
    commit(store, write_model(tmp_path / "model", seed=9), MODEL, CommitOptions("last"))
    assert list((store.meta / "tmp").iterdir()) == []


def _start(store: Store) -> tuple[subprocess.Popen[str], Live]:
    command = [sys.executable, "-m", "modelstore", "-C", str(store.root), "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--quiet"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MSTORE_TOKEN": TOKEN},
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    return process, Live(url, int(url.rpartition(":")[2]), [])


def _keep_uploading(live: Live, turn: int, weights: bytes, answered: list[tuple[str, str]]) -> None:
    """Upload until the server is gone; note what it said it had."""
    hub = Hub(None, live, Path())  # type: ignore[arg-type]  (only the server is asked)
    with suppress(OSError, HTTPException, ValueError):
        for number in range(1000):
            name = f"{turn}-{number}.txt"
            oid = hub.put(weights + name.encode())
            answer = hub.commit(text(name, name), large("more.bin", oid))
            if answer.status != 200:
                return
            answered.append((answer.json["commitOid"], name))
