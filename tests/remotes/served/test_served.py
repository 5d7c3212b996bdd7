"""A store that is served is a remote: to read from, and, with the token, to push to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import (
    BadNameError,
    ConflictError,
    RemoteError,
)
from modelstore.hashing import digest_of
from modelstore.ops.backup import backup, plan_backup
from modelstore.ops.clone import clone
from modelstore.ops.elsewhere import key_of
from modelstore.ops.offered import FrameKey, RecordKey, RegistryKey, kind_of
from modelstore.ops.pointer import set_alias
from modelstore.ops.remotes import add
from modelstore.ops.resolve import resolve
from modelstore.remotes.base import Remote
from modelstore.remotes.directory import DirectoryRemote
from modelstore.remotes.web import WebRemote
from modelstore.server.remote import values
from modelstore.store import Store, create
from tests.cli.program import run
from tests.contracts.remote import (
    REGISTRY,
    ReadContract,
    StoreContract,
)
from tests.ops.remotes import LINE, assert_sound, commit_model, files_out, pull_from, push_to
from tests.ops.test_push_pull import (  # what holds of any remote
    test_a_further_version_moves_only_what_is_new,  # noqa: F401
    test_a_push_without_changes_costs_a_few_small_requests,  # noqa: F401
    test_changes_there_are_added_to_ours,  # noqa: F401
    test_of_two_that_push_one_is_told_to_pull,  # noqa: F401
    test_one_model_in_conflict_keeps_no_other_back,  # noqa: F401
    test_what_is_pushed_can_be_pulled,  # noqa: F401
)
from tests.remotes.served.conftest import MINE, at
from tests.remotes.servers import RangedHandler, web_server
from tests.server.live import TOKEN, Live, serving

# --- what every remote promises


class TestServed(StoreContract):
    """A store behind `mstore serve` keeps what it is given as any remote does."""

    @pytest.fixture(autouse=True)
    def pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let a listing take several answers."""
        monkeypatch.setattr(values, "PAGE", 16)


class TestDirectory(StoreContract):
    """So does a directory."""

    @pytest.fixture
    def remote(self, tmp_path: Path) -> Iterator[Remote]:
        """An empty directory."""
        (tmp_path / "remote").mkdir()
        with closing(DirectoryRemote(tmp_path / "remote")) as remote:
            yield remote


class TestWebServer(ReadContract):
    """A directory that some web server serves is read through the same class as ever."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """Return the directory that is served."""
        root = tmp_path / "directory"
        root.mkdir()
        return root

    @pytest.fixture
    def remote(self, root: Path) -> Iterator[Remote]:
        """Return the remote."""
        with web_server(root, RangedHandler) as url, at(url, {}) as remote:
            yield remote

    @pytest.fixture
    def fill(self, root: Path):  # type: ignore[no-untyped-def]
        """Return what puts a value into it."""
        return DirectoryRemote(root).put

    def test_only_reads(self, remote: Remote) -> None:
        """It cannot be listed, and takes nothing, as before."""
        assert not remote.writable
        calls: list[Callable[[], object]] = [
            lambda: list(remote.list()),
            lambda: remote.put("a", b""),
            lambda: remote.put_if_absent("a", b""),
            lambda: remote.swap("a", b"", None),
            lambda: remote.delete(["a"]),
        ]
        for call in calls:
            with pytest.raises(RemoteError, match=r"cannot be listed|can only be read"):
                call()


# --- the commands


def test_a_session(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remote add, push, clone, fetch, pull, and clone --lazy, as they are typed."""
    monkeypatch.setenv("MSTORE_TOKEN", TOKEN)
    store = create(tmp_path / "mine")
    commit_model(store, tmp_path / "run")
    at = ("-C", store.root)
    assert run(*at, "remote", "add", "origin", live.url).code == 0
    assert "v1.0" in run(*at, "push").out
    assert live.notes == ["m was pushed: v1.0"]
    theirs = tmp_path / "theirs"
    assert run("clone", live.url, theirs).code == 0
    commit_model(store, tmp_path / "run", step=1e-4, activate=True)
    assert run(*at, "push").code == 0
    assert run("-C", theirs, "fetch").code == 0
    pulled = run("-C", theirs, "pull", "--json")
    assert pulled.data("pull")["models"][0]["versions"] == ["v1.1"]
    assert Store(theirs).state(LINE).active == "v1.1"
    lazy = tmp_path / "lazy"
    assert run("clone", "--lazy", live.url, lazy).code == 0
    frames = len(list(Store(lazy).blobs.iter_digests()))
    assert frames < len(list(Store(theirs).blobs.iter_digests()))
    assert run("-C", lazy, "checkout", "v1.1").code == 0
    weights = Path(lazy, "m", "v1.1", "model.safetensors").read_bytes()
    assert weights == files_out(store, "v1.1")["model.safetensors"]
    assert run("-C", theirs, "fsck", "--full").code == 0


def test_what_is_pushed_is_there_as_if_it_was_committed(
    served: Store, store: Store, remote: Remote, live: Live, tmp_path: Path
) -> None:
    """Views, journal, version directories and ACTIVE; and clients of the Hub see it at once."""
    commit_model(store, tmp_path / "run", activate=True)
    set_alias(store, "prod", resolve(store, "v1.0"))
    push_to(store, remote)
    for name in ("model_registry.json", "journal.jsonl"):
        assert (served.root / LINE / name).read_bytes() == (store.root / LINE / name).read_bytes()
    names = {path.name for path in served.version_dir(LINE, "v1.0").iterdir()}
    assert {"manifest.json", "README.md", "model_info.json"} <= names
    assert served.state(LINE).active == "v1.0"
    answer = live.ask(f"/{LINE}/resolve/prod/model.safetensors")
    assert answer.body == files_out(store, "v1.0")["model.safetensors"]
    assert_sound(served)


def test_anybody_on_this_machine_reads(
    served: Store, live: Live, tmp_path: Path, other: Store
) -> None:
    """Without the token a store is cloned and pulled, and what pushes says how to get on."""
    commit_model(served, tmp_path / "run")
    made = clone(live.url, tmp_path / "clone")
    assert files_out(made.store, "v1.0") == files_out(served, "v1.0")
    commit_model(made.store, tmp_path / "run", step=1e-4)
    with at(live.url, {}) as remote:
        with pytest.raises(RemoteError, match="only from those who have its token") as refused:
            push_to(made.store, remote)
        assert "MSTORE_TOKEN" in refused.value.hint
    with at(live.url, {"MSTORE_TOKEN": "x" * 20}) as wrong:
        with pytest.raises(RemoteError, match="MSTORE_TOKEN is not that of"):
            push_to(made.store, wrong)
        assert pull_from(other, wrong).versions == ("v1.0",)


@pytest.mark.parametrize("values", [{}, {"token": TOKEN, "read_only": True}])
def test_a_server_that_takes_nothing_says_so(
    served: Store, store: Store, tmp_path: Path, values: dict[str, object]
) -> None:
    """Without --token, or with --read-only, nobody pushes."""
    commit_model(store, tmp_path / "run")
    with serving(served, **values) as live, at(live.url, MINE) as remote:
        with pytest.raises(RemoteError, match="takes no changes") as refused:
            push_to(store, remote)
        assert "mstore serve --token" in refused.value.hint
    assert served.models() == []


def test_a_client_that_knows_no_servers_reads_it_as_a_directory(
    served: Store, live: Live, other: Store, tmp_path: Path
) -> None:
    """Keys lie where a web server would have them, so nothing more is needed to pull."""
    commit_model(served, tmp_path / "run")
    with closing(WebRemote(live.url)) as remote:
        assert pull_from(other, remote).versions == ("v1.0",)
    assert files_out(other, "v1.0") == files_out(served, "v1.0")


@given(st.text(st.sampled_from("abcf01/._-models.jsonrecgity"), max_size=90) | st.text())
def test_any_text_is_a_key_of_a_store_or_is_none(text: str) -> None:
    """What a key stands for says the key, and nothing but a name that cannot be one raises."""
    try:
        kind = kind_of(text)
    except BadNameError:
        return
    if isinstance(kind, FrameKey):
        assert key_of(kind.digest) == text
    elif isinstance(kind, RegistryKey):
        assert f"models/{kind.model}/registry.json" == text
    elif isinstance(kind, RecordKey):
        assert f"models/{kind.model}/records/{kind.seq:010d}-{kind.digest}.json" == text
    else:
        assert kind in {None, "mstore.json", "models.json"}
    for name in (key_of(digest_of(text.encode("utf-8", "replace"))), REGISTRY):
        assert kind_of(name) is not None
        with pytest.raises(BadNameError):
            kind_of(name + "\n")


def test_another_machine_needs_the_token_to_read(served: Store, tmp_path: Path) -> None:
    """Where others can connect, a clone without the token is told which variable to set."""
    commit_model(served, tmp_path / "run")
    with serving(served, host="0.0.0.0", token=TOKEN) as live:
        with pytest.raises(RemoteError, match="answered 401") as refused:
            clone(live.url, tmp_path / "clone")
        assert "MSTORE_TOKEN" in refused.value.hint
        assert TOKEN not in refused.value.message
        assert not (tmp_path / "clone").exists()
        clone(live.url, tmp_path / "clone", environment=MINE)


def test_a_server_takes_no_backups(served: Store, store: Store, remote: Remote) -> None:
    """A backup is refused before anything is sent, with what to do instead."""
    for call in (backup, plan_backup):
        with pytest.raises(RemoteError, match="takes pushes and no backups") as refused:
            call(store, remote)
        assert "mstore push" in refused.value.hint
    for refused_key in ("backups/20260101T000000Z-00000000.json", "probe/x", "sealed.json"):
        with pytest.raises(RemoteError, match="does not take"):
            remote.put_if_absent(refused_key, b"{}")
    with pytest.raises(RemoteError, match="keeps what is there"):
        remote.delete(["mstore.json"])
    store.environment = {**MINE, "MSTORE_PASSPHRASE": "x"}
    with pytest.raises(ConflictError, match="holds something already"):
        add(store, "origin", remote.shown, encrypt=True)


def test_a_remote_is_added_without_being_written_to(
    served: Store, store: Store, live: Live
) -> None:
    """A server of mstore is known for what it is, and is not tried; not even the token is needed."""
    _, found = add(store, "origin", live.url)
    assert found is not None
    assert found.keeps_registries
    assert served.models() == []
