"""Uploads through the Hub's API: what is put on top of a version is the next version."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelstore.manifest import Manifest
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.pointer import set_alias
from modelstore.ops.resolve import Resolved, resolve
from modelstore.server.inbox import KEPT_SECONDS, LINGER_SECONDS, Inboxes
from modelstore.server.permits import Permits
from modelstore.server.xet.transfer import Transfer, Xorb
from modelstore.store import Store, create
from tests.models import write_model
from tests.server.live import TOKEN, Answer, Live, serving

MODEL = ModelName("tiny")
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
API = f"/api/models/mstore/{MODEL}"


@dataclass(frozen=True, slots=True)
class Hub:
    """A store with one version of a line, of which a server takes changes."""

    store: Store
    live: Live
    directory: Path

    def ask(self, path: str, value: Any = None, method: str = "POST") -> Answer:
        """Send a JSON value with the token."""
        body = None if value is None else json.dumps(value).encode()
        return self.live.ask(path, method, AUTHORIZED, body)

    def commit(self, *rows: tuple[str, dict[str, Any]], to: str = "main", **header: str) -> Answer:
        """Send a commit."""
        lines = [("header", {"summary": "m", **header}), *rows]
        body = b"\n".join(json.dumps({"key": k, "value": v}).encode() for k, v in lines)
        return self.live.ask(f"{API}/commit/{to}", "POST", AUTHORIZED, body)

    def put(self, data: bytes) -> str:
        """Send a large file as clients do; return its SHA-256."""
        oid = hashlib.sha256(data).hexdigest()
        (found,) = self.batch((oid, len(data)))
        if "actions" in found:
            path = found["actions"]["upload"]["href"].removeprefix(self.live.url)
            assert self.live.ask(path, "PUT", body=data).status == 200
        return oid

    def batch(self, *wanted: tuple[str, int]) -> list[dict[str, Any]]:
        """Ask where to send files."""
        rows = [{"oid": oid, "size": size} for oid, size in wanted]
        value = {"operation": "upload", "objects": rows, "ref": {"name": "main"}}
        objects: list[dict[str, Any]] = self.ask(
            f"/mstore/{MODEL}.git/info/lfs/objects/batch", value
        ).json["objects"]
        return objects

    def version(self, name: str = "ACTIVE") -> Resolved:
        """Return a version."""
        return resolve(self.store, f"{MODEL}@{name}")

    def manifest(self, name: str = "ACTIVE") -> Manifest:
        """Return what a version consists of."""
        return self.store.manifest(MODEL, self.version(name).entry)

    def paths(self, name: str = "ACTIVE") -> list[str]:
        """Return the files of a version."""
        return [file.path for file in self.manifest(name).files]

    def staged(self) -> list[Path]:
        """Return the files that were uploaded and are there still."""
        return sorted(p for p in (self.store.meta / "tmp").rglob("*/*") if p.is_file())


def text(path: str, content: str) -> tuple[str, dict[str, Any]]:
    """Return a small file as a row of a commit."""
    said = base64.b64encode(content.encode()).decode()
    return "file", {"path": path, "content": said, "encoding": "base64"}


def large(path: str, oid: str) -> tuple[str, dict[str, Any]]:
    """Return a large file as a row of a commit."""
    return "lfsFile", {"path": path, "oid": oid, "algo": "sha256"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """v1.0 of a line, which is ACTIVE."""
    store = create(tmp_path / "tuned_models")
    directory = write_model(tmp_path / "model", files={"extra/a.txt": "a", "extra/b.txt": "b"})
    (directory / "extra" / "a.txt").chmod(0o755)
    commit(store, directory, MODEL, CommitOptions("first"))
    with serving(store, token=TOKEN) as live:
        yield Hub(store, live, directory)


def test_a_commit_makes_the_next_version(hub: Hub) -> None:
    """Message, author, parent and ACTIVE are those of an upload; other files are what they were."""
    before = hub.manifest()
    answer = hub.commit(text("new.txt", "new"), summary="title", description="why\nand how")
    made = hub.version()
    assert (str(made), str(made.entry.version)) == ("tiny@v1.1", hub.store.state(MODEL).active)
    assert answer.json == {
        "success": True,
        "commitUrl": f"{hub.live.url}/mstore/{MODEL}/commit/{str(made.id)[:40]}",
        "commitOid": str(made.id)[:40],
        "hookOutput": "",
    }
    manifest = hub.manifest()
    assert manifest.message == "title\n\nwhy\nand how"
    assert (manifest.author, manifest.parents) == ("hub upload", (hub.version("v1.0").id,))
    assert [file for file in manifest.files if file.path != "new.txt"] == list(before.files)
    assert hub.staged() == []
    assert fsck(hub.store, Level.FULL).problems == ()


def test_equal_content_is_no_new_version(hub: Hub) -> None:
    """What changes nothing answers with the version that is there, modes of files included."""
    oid = hub.put((hub.directory / "model.safetensors").read_bytes())
    answer = hub.commit(text("extra/a.txt", "a"), large("model.safetensors", oid))
    assert answer.json["commitOid"] == str(hub.version("v1.0").id)[:40]
    assert [str(entry.version) for entry in hub.store.state(MODEL).entries()] == ["v1.0"]
    assert hub.staged() == []


def test_files_and_folders_are_deleted(hub: Hub) -> None:
    """A folder goes with all that is in it, in the order in which things were asked for."""
    rows = [
        ("deletedFolder", {"path": "extra/"}),
        ("deletedFile", {"path": "tokenizer.json"}),
        text("extra/c.txt", "c"),
    ]
    assert hub.commit(*rows).status == 200
    assert hub.paths() == ["config.json", "extra/c.txt", "model.safetensors"]
    for key, path in (("deletedFile", "none"), ("deletedFile", "extra"), ("deletedFolder", "ex")):
        answer = hub.commit((key, {"path": path}))
        assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound")
        assert "A file with this name doesn't exist" in answer.json["error"]
    rows = [("deletedFile", {"path": path}) for path in hub.paths()]
    answer = hub.commit(*rows)
    assert (answer.status, "at least one file" in answer.json["error"]) == (400, True)


def test_a_known_file_is_not_sent_again(hub: Hub) -> None:
    """The batch asks for nothing that a version of the line has; a commit takes it from there."""
    known = hub.manifest().file("model.safetensors")
    assert known is not None
    new = hashlib.sha256(b"new").hexdigest()
    first, second = hub.batch((known.sha256, known.size), (new, 3))
    assert ("actions" in first, "actions" in second) == (False, True)
    assert hub.commit(large("copy/model.safetensors", known.sha256)).status == 200
    copied = hub.manifest().file("copy/model.safetensors")
    assert copied is not None
    assert copied.spans == known.spans
    answer = hub.commit(large("x.bin", new))
    assert (answer.status, "did not come" in answer.json["error"]) == (400, True)
    hub.put(b"new")
    assert "actions" not in hub.batch((new, 3))[0]
    assert hub.commit(large("x.bin", new)).status == 200
    assert hub.staged() == []


def test_what_is_put_must_be_what_was_promised(hub: Hub) -> None:
    """Other bytes, another length, another address or none of ours: nothing of it is kept."""
    data = b"0123456789"
    oid = hashlib.sha256(data).hexdigest()
    (found,) = hub.batch((oid, len(data)))
    path = found["actions"]["upload"]["href"].removeprefix(hub.live.url)
    for body, status in ((b"0123456780", 422), (b"012345678", 422), (data + b"x", 413)):
        assert hub.live.ask(path, "PUT", body=body).status == status
    other = path.replace(oid, "0" * 64)
    for wrong in (other, path.replace("size=10", "size=99"), path[:-1] + "z", path.split("?")[0]):
        assert hub.live.ask(wrong, "PUT", body=data).status == 403
    assert hub.staged() == []
    assert hub.live.ask(path, "PUT", body=data).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/x",
        "a/../../x",
        ".git/config",
        "a/.GIT/x",
        "con.txt",
        "a\\b",
        "a:b",
        "a\n",
        "x ",
        "",
    ],
)
def test_paths_that_lead_elsewhere_are_refused(hub: Hub, path: str) -> None:
    """Before anything is sent, and by the commit; nothing changes."""
    value = {"files": [{"path": path, "size": 1, "sample": ""}]}
    assert hub.ask(f"{API}/preupload/main", value).status == 400
    for row in (text(path, "x"), large(path, "0" * 64), ("deletedFile", {"path": path or "/"})):
        answer = hub.commit(row)
        assert answer.status in {400, 404}
        assert "Traceback" not in answer.body.decode()
    assert len(hub.store.state(MODEL).entries()) == 1


def test_names_that_collide_are_refused(hub: Hub) -> None:
    """Two files that one system takes for one, or a file where a directory is, make no version."""
    for path in ("CONFIG.json", "config.json/x", "Extra/c.txt"):
        answer = hub.commit(text(path, "x"))
        assert (answer.status, "side by side" in answer.json["error"]) == (409, True)
    assert hub.staged() == []


def test_a_stale_parent_is_refused(hub: Hub) -> None:
    """With `parent_commit` an upload goes on top of that or not at all; some digits of it will do."""
    first = str(hub.version().id)
    assert hub.commit(text("a.txt", "1"), parentCommit=first[:7]).status == 200
    answer = hub.commit(text("b.txt", "1"), parentCommit=first[:40])
    assert (answer.status, "has changed since" in answer.json["error"]) == (412, True)
    assert hub.commit(text("b.txt", "1")).status == 200
    assert hub.paths()[:2] == ["a.txt", "b.txt"]


def test_an_alias_moves_on_as_a_branch_does(hub: Hub) -> None:
    """An upload to an alias leaves ACTIVE; one to a version, or to nothing, is refused."""
    set_alias(hub.store, "dev", hub.version("v1.0"))
    assert hub.commit(text("a.txt", "1")).status == 200
    assert hub.commit(text("d.txt", "1"), to="dev").status == 200
    state = hub.store.state(MODEL)
    assert (state.active, state.aliases) == ("v1.1", {"dev": "v1.2"})
    assert "a.txt" not in hub.paths("dev")
    assert hub.manifest("dev").parents == (hub.version("v1.0").id,)
    for name, status in (("v1.0", 400), (str(hub.version().id)[:40], 400), ("none", 404)):
        answer = hub.commit(text("x", "1"), to=name)
        assert answer.status == status
        assert hub.ask(f"{API}/preupload/{name}", {"files": []}).status == status
        assert hub.live.ask(f"{API}/xet-write-token/{name}", headers=AUTHORIZED).status == status
    assert hub.live.ask(f"{API}/commit/main?create_pr=1", "POST", AUTHORIZED).status == 400


def test_uploads_at_once_are_all_kept(hub: Hub) -> None:
    """Eight clients that upload a file each at the same time make eight versions, none lost."""
    statuses = []

    def one(number: int) -> None:
        statuses.append(hub.commit(text(f"{number}.txt", str(number))).status)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8
    assert [path for path in hub.paths() if path[0].isdigit()] == [f"{n}.txt" for n in range(8)]
    assert len(hub.store.state(MODEL).entries()) == 9


def test_how_a_file_is_sent(hub: Hub) -> None:
    """Weights and what is over 10 MiB go by themselves; digests tell what need not be sent."""
    asked = [
        {"path": path, "size": size, "sample": ""}
        for path, size in (("model.safetensors", 1), ("config.json", 5), ("big.json", 11 << 20))
    ]
    asked.append({"path": "logs/x.log", "size": 1, "sample": ""})
    answer = hub.ask(f"{API}/preupload/main", {"files": asked, "gitIgnore": "logs/\n# x\n"})
    weights, config = (hub.manifest().file(name) for name in ("model.safetensors", "config.json"))
    assert weights is not None
    assert config is not None
    assert answer.json["files"] == [
        {
            "path": "model.safetensors",
            "uploadMode": "lfs",
            "shouldIgnore": False,
            "oid": weights.sha256,
        },
        {
            "path": "config.json",
            "uploadMode": "regular",
            "shouldIgnore": False,
            "oid": config.git_sha1,
        },
        {"path": "big.json", "uploadMode": "lfs", "shouldIgnore": False},
        {"path": "logs/x.log", "uploadMode": "regular", "shouldIgnore": True},
    ]


def test_what_cannot_fit_is_said_before_it_is_sent(hub: Hub) -> None:
    """Files larger than the disk are refused when the client asks how to send them."""
    value = {"files": [{"path": "big.bin", "size": 1 << 60, "sample": ""}]}
    answer = hub.ask(f"{API}/preupload/main", value)
    assert (answer.status, "are free" in answer.json["error"]) == (507, True)


WRITES = [
    ("PUT", f"{API}/settings"),
    ("POST", f"{API}/discussions"),
    ("POST", f"{API}/super-squash/main"),
    ("POST", "/api/repos/move"),
    ("POST", "/api/repos/create"),
    ("DELETE", "/api/repos/delete"),
    ("POST", f"{API}/preupload/main"),
    ("POST", f"{API}/commit/main"),
    ("POST", f"/mstore/{MODEL}.git/info/lfs/objects/batch"),
    ("GET", f"{API}/xet-write-token/main"),
    ("POST", f"{API}/tag/main"),
    ("DELETE", f"{API}/tag/x"),
    ("POST", f"{API}/branch/x"),
    ("DELETE", f"{API}/branch/x"),
]


def test_only_who_has_the_token_changes_anything(hub: Hub) -> None:
    """No token, a wrong one, a server without one, a read-only one, a page of another site."""
    wrong = {"Authorization": "Bearer " + "x" * 40}
    foreign = {**AUTHORIZED, "Origin": "http://evil.example"}
    with serving(hub.store) as closed, serving(hub.store, token=TOKEN, read_only=True) as reading:
        for method, path in WRITES:
            body = None if method == "GET" else b"{}"
            assert hub.live.ask(path, method, {}, body).status == 401
            assert hub.live.ask(path, method, wrong, body).status == 401
            assert closed.ask(path, method, AUTHORIZED, body).status == 403
            answer = reading.ask(path, method, AUTHORIZED, body)
            assert (answer.status, answer.json["error"]) == (403, "this server is read-only")
            if method != "GET":
                assert hub.live.ask(path, method, foreign, body).status == 403
    assert hub.store.state(MODEL).seq == 1


def test_the_address_of_an_upload_is_enough_on_any_host(hub: Hub) -> None:
    """Clients send no token to where a file goes; the address has a permit, which nothing else has."""
    with serving(hub.store, host="0.0.0.0", token=TOKEN) as live:
        other = Hub(hub.store, live, hub.directory)
        oid = other.put(b"large")
        assert other.commit(large("x.bin", oid)).status == 200
        token = live.ask(f"{API}/xet-write-token/main", headers=AUTHORIZED).json
        said = {"Authorization": f"Bearer {token['accessToken']}"}
        assert live.ask("/xet/tiny/none/v1/shards", "POST", said, b"").status == 404
        assert live.ask(f"{API}/tree/main", headers=said).status == 401
        for query in ("", "?" + "a=1&" * 20, "?size=1&permit=1-" + "0" * 64):
            assert live.ask(f"/uploads/tiny/x{query}", "PUT", body=b"").status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"nothing",
        b"[1]",
        b"{}",
        b'{"key": "file", "value": 1}',
        b'{"key": "file", "value": {"path": "a", "content": "\xc3\x28"}}',
        b'{"key": "file", "value": {"path": "a", "content": "***", "encoding": "base64"}}',
        b'{"key": "file", "value": {"path": 7, "content": ""}}',
        b'{"key": "file", "value": {"path": "\\ud800", "content": ""}}',
        b'{"key": "header", "value": {"summary": "\\ud800"}}',
        b'{"key": "odd", "value": {"path": "a"}}',
        b"[" * 100_000,
        b'{"key": "header", "value": {"summary": "' + b"x" * 70_000 + b'"}}',
    ],
)
def test_a_body_that_is_no_commit_is_refused(hub: Hub, body: bytes) -> None:
    """Whatever is sent ends in one sentence, and nothing is left of it."""
    for path in (f"{API}/commit/main", f"{API}/preupload/main", f"{API}/tag/main"):
        answer = hub.live.ask(path, "POST", AUTHORIZED, text_line("a.txt") + body)
        assert answer.status == 400, answer.body
        assert "Traceback" not in answer.body.decode()
    assert hub.staged() == []
    assert hub.live.reports == []


def text_line(path: str) -> bytes:
    """Return a line of a commit that is in order."""
    key, value = text(path, "x")
    return json.dumps({"key": key, "value": value}).encode() + b"\n"


def test_a_line_of_a_commit_is_bounded(hub: Hub) -> None:
    """A file that is not large does not fill the memory by having no end."""
    answer = hub.live.ask(f"{API}/commit/main", "POST", AUTHORIZED, b"x" * (16 << 20))
    assert answer.status == 413


def test_the_files_of_a_commit_are_bounded(hub: Hub) -> None:
    """Whoever has the token cannot fill the memory with names either."""
    line = json.dumps({"key": "deletedFile", "value": {"path": "x"}}).encode() + b"\n"
    answer = hub.live.ask(f"{API}/commit/main", "POST", AUTHORIZED, line * 25_001)
    assert (answer.status, b"25,000 files" in answer.body) == (413, True)


def test_a_line_begins_without_a_version(hub: Hub) -> None:
    """What was created and never uploaded to exists, and has no files; the first upload is v1.0."""
    answer = hub.ask("/api/repos/create", {"name": "fresh", "organization": None})
    assert answer.json["url"] == f"{hub.live.url}/mstore/fresh"
    again = hub.ask("/api/repos/create", {"name": "mstore/fresh", "type": "model"})
    assert (again.status, again.json["url"]) == (409, answer.json["url"])
    assert hub.live.ask("/api/models/mstore/fresh").json["sha"] == "0" * 40
    assert hub.live.ask("/api/models/mstore/fresh/tree/main?recursive=1").json == []
    missing = hub.live.ask("/mstore/fresh/resolve/main/README.md")
    assert (missing.status, missing.headers["x-error-code"]) == (404, "EntryNotFound")
    body = text_line("README.md")
    made = hub.live.ask("/api/models/mstore/fresh/commit/main", "POST", AUTHORIZED, body)
    assert made.status == 200
    assert hub.store.state(ModelName("fresh")).active == "v1.0"


@pytest.mark.parametrize(
    ("value", "status", "words"),
    [
        ({"name": "v1.0"}, 400, "cannot be the name of a model"),
        ({"name": "../x"}, 403, "every model here is mstore/NAME"),
        ({"name": "x", "organization": "alice"}, 403, "use mstore/x"),
        ({"name": "x", "type": "dataset"}, 400, "no datasets"),
        ({"name": "TINY"}, 400, "one name on some systems"),
        ({"name": 1}, 400, "is not a text"),
        ({}, 400, "cannot be the name of a model"),
    ],
)
def test_a_line_that_cannot_be_is_refused(
    hub: Hub, value: dict[str, Any], status: int, words: str
) -> None:
    """Names that are none, other owners and other kinds end in a sentence; none is begun."""
    answer = hub.ask("/api/repos/create", value)
    assert (answer.status, words in answer.json["error"]) == (status, True), answer.json
    assert hub.store.models() == [MODEL]


def test_tags_and_branches_are_aliases(hub: Hub) -> None:
    """Both are made once and removed; versions and main are there by themselves and stay."""
    assert hub.ask(f"{API}/tag/v1.0", {"tag": "good", "message": "it is"}).status == 200
    assert hub.ask(f"{API}/branch/dev", {}).status == 200
    assert hub.store.state(MODEL).aliases == {"good": "v1.0", "dev": "v1.0"}
    for path, value, status in (
        ("tag/main", {"tag": "good"}, 409),
        ("tag/main", {"tag": "v1.0"}, 409),
        ("branch/main", {}, 409),
        ("tag/main", {"tag": "v7.0"}, 400),
        ("tag/main", {"tag": "latest"}, 400),
        ("tag/none", {"tag": "x"}, 404),
        ("branch/x", {"startingPoint": "none"}, 404),
    ):
        assert hub.ask(f"{API}/{path}", value).status == status, path
    for path, method in (("settings", "PUT"), ("super-squash/main", "POST")):
        answer = hub.ask(f"{API}/{path}", {}, method)
        assert (answer.status, "never change" in answer.json["error"]) == (403, True)
    for path, status in (
        ("tag/good", 204),
        ("branch/dev", 204),
        ("tag/good", 404),
        ("branch/main", 403),
        ("tag/v1.0", 403),
    ):
        assert hub.ask(f"{API}/{path}", method="DELETE").status == status, path
    assert hub.store.state(MODEL).aliases == {}


def test_what_is_never_committed_goes_after_a_time(tmp_path: Path) -> None:
    """Uploads of which nothing more comes are removed, and what was committed leaves nothing."""
    store = create(tmp_path / "tuned_models")
    inboxes = Inboxes(store)
    try:
        inbox = inboxes.of(MODEL)
        path = inbox.new_path()
        path.write_bytes(b"x")
        inbox.keep("0" * 64, path)
        now = inbox.used
        inboxes.sweep(now + KEPT_SECONDS - 1)
        assert inbox.file("0" * 64) == path
        inboxes.sweep(inbox.used + KEPT_SECONDS + 1)
        assert not path.exists()
        assert list((store.meta / "tmp").iterdir()) == []
        inbox = inboxes.of(MODEL)
        first, second = (inbox.sending(lambda: Transfer(inbox)) for _ in range(2))
        assert first is second
        path = inbox.new_path()
        path.write_bytes(b"x")
        assert isinstance(first, Transfer)
        first.add("0" * 64, Xorb(path, array("Q", [1])))
        inboxes.sweep(inbox.used + LINGER_SECONDS + 1)
        assert path.exists()
        inbox.committed([])
        assert inbox.sending(lambda: Transfer(inbox)) is not first
        inboxes.sweep(first.used + LINGER_SECONDS - 1)
        assert path.exists()
        inboxes.sweep(first.used + LINGER_SECONDS + 1)
        assert not path.exists()
        inbox.committed([])
        inboxes.sweep(inbox.used + 2 * LINGER_SECONDS)
        assert list((store.meta / "tmp").iterdir()) == []
    finally:
        inboxes.close()


def test_permits_are_for_one_thing_and_end() -> None:
    """A permit says what it is for and until when, and no other server takes it."""
    permits, others = Permits(), Permits()
    permit, ends = permits.issue("a b", 60)
    assert permits.allows(permit, "a b")
    assert not permits.allows(permit, "a c")
    assert not others.allows(permit, "a b")
    assert not permits.allows(permit.replace(str(ends), str(ends + 1)), "a b")
    assert not permits.allows(permits.issue("a b", -1)[0], "a b")
    for said in ("", "x", "1-", "٣-" + "0" * 64, "9" * 99 + "-" + "0" * 64):
        assert not permits.allows(said, "a b")


def test_addresses_are_those_by_which_the_client_came(hub: Hub) -> None:
    """Behind a proxy with TLS the addresses that clients are told begin with https."""
    headers = {**AUTHORIZED, "X-Forwarded-Proto": "https"}
    path = f"{API}/xet-write-token/main"
    assert hub.live.ask(path, headers=headers).json["casUrl"].startswith("https://127.0.0.1:")
    assert hub.live.ask(path, headers=AUTHORIZED).json["casUrl"].startswith("http://127.0.0.1:")
