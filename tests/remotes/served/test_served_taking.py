"""What a server takes of those who push, and what it does not, however it is asked."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from modelstore.hashing import digest_of
from modelstore.ops.elsewhere import key_of
from modelstore.ops.lines import models_document
from modelstore.ops.pointer import set_alias
from modelstore.ops.resolve import resolve
from modelstore.remotes.base import Remote
from modelstore.store import Store, create
from modelstore.view import render
from tests.contracts.remote import (
    REGISTRY,
    at_once,
    frame_of,
    noise,
    records_of,
)
from tests.ops.remotes import LINE, assert_sound, commit_model, push_to
from tests.remotes.served.conftest import MINE, Raw, at, send_frames
from tests.remotes.servers import RangedHandler, web_server
from tests.server.live import TOKEN, Live


def test_a_frame_that_is_not_what_it_says_is_refused(served: Store, store: Store, raw: Raw) -> None:
    """Damage anywhere, another blob's frame, and what is no frame leave nothing behind."""
    with store.blobs.transaction() as transaction:
        digest = transaction.add_bytes(noise(5000))
        another = transaction.add_bytes(noise(5000, 1))
        transaction.publish()
    data = frame_of(store, digest)
    flipped = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (0, 9, 100, -1)]
    bodies = [b"", b"no frame", data[:-1], data + b"x", frame_of(store, another), *flipped]
    for body in bodies:
        status, sentence = raw.put(key_of(digest), body)
        assert status == 422, body[:20]
        assert digest in sentence
    assert list(served.blobs.iter_digests()) == []
    assert list((served.meta / "tmp").iterdir()) == []
    assert raw.put(key_of(digest), data) == (201, "")
    assert raw.put(key_of(digest), data)[0] == 412


def test_a_frame_needs_what_it_is_built_on(
    served: Store, store: Store, raw: Raw, tmp_path: Path
) -> None:
    """A chain must end here: a frame whose base is not here is refused, and then taken after it."""
    for step in (0.0, 1e-4):
        commit_model(store, tmp_path / "run", step=step)
    headers = map(store.blobs.header, store.blobs.iter_digests())
    built = next(header for header in headers if header.depth)
    [base] = built.built_on
    data = frame_of(store, built.digest)
    status, sentence = raw.put(key_of(built.digest), data)
    assert (status, f"'{base}', which what was pushed" in sentence) == (409, True)
    assert raw.put(key_of(base), frame_of(store, base))[0] == 201
    assert raw.put(key_of(built.digest), data)[0] == 201
    assert set(served.blobs.iter_digests()) == {base, built.digest}


def test_a_registry_needs_all_that_it_names(
    served: Store, store: Store, remote: Remote, raw: Raw, tmp_path: Path
) -> None:
    """Without a record, a manifest or a frame nothing changes; with the last of them it is taken."""
    commit_model(store, tmp_path / "run")
    data = render(store.state(LINE).document)
    assert raw.put(REGISTRY, data)[0] == 409
    for key, payload in records_of(store).items():
        assert raw.put(key, payload)[0] == 201
    digests = sorted(store.blobs.iter_digests(), key=lambda d: store.blobs.header(d).depth)
    for digest in digests:
        status, _ = raw.put(REGISTRY, data)
        assert (status, served.models()) == (409, [])
        assert raw.put(key_of(digest), frame_of(store, digest))[0] == 201
    assert raw.put(REGISTRY, data)[0] == 204
    assert raw.put(REGISTRY, data)[0] == 204  # its reply might have been lost
    assert served.state(LINE).document == store.state(LINE).document
    assert_sound(served)


def test_a_registry_must_say_what_its_records_do(
    served: Store, store: Store, remote: Remote, raw: Raw, tmp_path: Path
) -> None:
    """A registry that claims anything else, an older one, or another history changes nothing."""
    commit_model(store, tmp_path / "run")
    old = render(store.state(LINE).document)
    push_to(store, remote)
    commit_model(store, tmp_path / "run", step=1e-4)
    send_frames(store, remote)
    document = json.loads(json.dumps(store.state(LINE).document))
    tag = remote.get_tagged(REGISTRY)[1]
    lies = [
        {**document, "active_version": "v1.1"},
        {**document, "head": digest_of(b"x")},
        {**document, "seq": document["seq"] + 1},
        {**document, "versions": {"v1.1": document["versions"]["v1.1"]}},
    ]
    for lie in lies:
        assert raw.put(REGISTRY, render(lie), If_Match=tag)[0] == 409
    assert raw.put(REGISTRY, render({**document, "model_type": "n"}), If_Match=tag)[0] == 422
    assert raw.put(REGISTRY, render(document)[:-30], If_Match=tag)[0] == 422
    stranger = create(tmp_path / "stranger")
    commit_model(stranger, tmp_path / "run", step=1.0)
    send_frames(stranger, remote)
    data = render(stranger.state(LINE).document)
    assert raw.put(REGISTRY, data, If_Match=tag)[0] == 409
    assert raw.put(REGISTRY, render(document), If_Match=tag)[0] == 204
    newer = remote.get_tagged(REGISTRY)[1]
    assert raw.put(REGISTRY, old, If_Match=newer)[0] == 409
    assert served.state(LINE).document == store.state(LINE).document
    assert_sound(served)


def test_a_record_must_be_the_one_of_its_name(store: Store, raw: Raw, tmp_path: Path) -> None:
    """Another number, another digest, or a byte more are refused."""
    commit_model(store, tmp_path / "run")
    [(key, payload)] = list(records_of(store).items())[:1]
    other = key.replace("0000000001", "0000000002")
    for name, body in ((key, payload + b"\n"), (other, payload), (key, b"{}"), (key, b"")):
        assert raw.put(name, body)[0] == 422
    assert raw.put(key, payload)[0] == 201
    assert raw.put(key, payload)[0] == 412


def test_names_that_differ_in_case_alone_are_refused(
    store: Store, remote: Remote, raw: Raw, tmp_path: Path
) -> None:
    """On some disks they would be one."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    data, tag = remote.get_tagged("models.json")
    assert json.loads(data)["models"] == ["m"]
    names = models_document([LINE, type(LINE)("M")])
    assert raw.put("models.json", names, If_Match=tag)[0] == 409
    assert raw.put("models.json", b"{}", If_Match=tag)[0] == 422
    assert raw.put("models.json", models_document([]), If_Match=tag)[0] == 412


KEYS = [
    "blobs/00/" + "0" * 63, "blobs/01/" + "0" * 64, "blobs/00/" + "0" * 65, "blobs/AB/" + "AB" * 32,
    "blobs/%2e%2e/format.json", "blobs/00/..%2f..%2fformat.json", "blobs/%252e%252e/format.json",
    "blobs/../format.json", "blobs//format.json", "blobs/00/..%5c..%5cformat.json",
    "models/..%2f..%2fx/registry.json", "models/%2e%2e/registry.json", "models/../registry.json",
    "models/m/records/x.json", "models/m/records/0000000001-x.json", "models/m/journal.jsonl",
    "models/m/records/..%2fregistry.json", "models/CON/registry.json", "models/m%00/registry.json",
    "models/m%0a/registry.json", "models/m/registry.json%0a", "models//registry.json",
    "locks/store.lock", ".mstore/config.json", ".mstore/blobs/00/x", "config.json", "format.json",
    "tmp/x", "trash/x", "pins/x", "refs/m/0000000001.json", "m/journal.jsonl", "mstore.json/x",
    "m/model_registry.json", "//mstore.json", "remotes/origin/m.json", "sealed.json",
    "backups/20260101T000000Z-00000000.json",
]  # fmt: skip


def test_nothing_but_keys_of_a_store_is_there(
    served: Store, live: Live, raw: Raw, tmp_path: Path
) -> None:
    """Neither files of the store nor ways out of it can be read or written, however they are spelt."""
    commit_model(served, tmp_path / "run")
    served.configure({"default_model": "SECRET"})

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in served.root.rglob("*") if path.is_file()}

    before = content()
    for key in KEYS:
        for method in ("GET", "HEAD"):
            answer = live.ask(f"/{key}", method)
            assert answer.status == 404, key
            assert b"SECRET" not in answer.body
        assert raw.put(key, b"x")[0] in {404, 405}, key
        for method in ("DELETE", "POST"):
            answer = live.ask(f"/{key}", method, {"Authorization": f"Bearer {TOKEN}"})
            assert answer.status in {404, 405}, key
    assert raw.put("mstore.json", b"x")[0] == 412
    assert content() == before


IMPOSTORS = [
    ({}, 401),
    ({"Authorization": "Bearer " + "x" * 20}, 401),
    ({"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}, 403),
    ({"Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": "cross-site"}, 403),
    ({"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}, 400),
]


def test_what_changes_the_store_is_checked_first(served: Store, live: Live) -> None:
    """Token, Host and Origin, for every key that can be put, and for every method."""
    for headers, status in IMPOSTORS:
        for key in ("mstore.json", "models.json", REGISTRY, key_of(digest_of(b""))):
            named = {"If-None-Match": "*", **headers}
            assert live.ask(f"/{key}", "PUT", named, b"x").status == status
            for method in ("DELETE", "POST"):
                assert live.ask(f"/{key}", method, named, b"x").status in {status, 405}
    assert served.models() == []
    assert live.notes == []


def test_bodies_are_bounded(
    served: Store, live: Live, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value must say how long it is, fit, come, and not be longer than its key allows."""
    digest = digest_of(b"")
    record = f"models/m/records/0000000001-{digest}.json"
    assert raw.put(REGISTRY, b"", Content_Length=f"{33 << 20}")[0] == 413
    assert raw.put(record, b"", Content_Length=f"{9 << 20}")[0] == 413
    assert raw.put(key_of(digest), b"", Content_Length="9" * 18)[0] == 507
    assert raw.put(REGISTRY, b"", If_Match='"x"', If_None_Match="*")[0] == 428
    assert raw.put(key_of(digest), b"x", If_None_Match='"x"')[0] == 428
    chunked = {"Transfer-Encoding": "chunked", "If-None-Match": "*"}
    mine = {"Authorization": f"Bearer {TOKEN}"}
    assert live.ask(f"/{key_of(digest)}", "PUT", {**chunked, **mine}, b"0\r\n\r\n").status == 411
    monkeypatch.setattr("modelstore.server.limits.pieces.__defaults__", (0.2,))
    monkeypatch.setattr("modelstore.server.limits.read_body.__defaults__", (1 << 20, 0.2))
    for key in (key_of(digest), REGISTRY):
        for size in (100, 3 << 20):
            with _put_slowly(live, key, size) as connection:
                assert connection.getresponse().status == 408
    monkeypatch.setattr("modelstore.server.limits.BODY_RATE", 1e9)
    for key in (key_of(digest), REGISTRY):
        with _put_slowly(live, key, 3 << 20) as connection:
            with suppress(ConnectionError):
                for _ in range(30):
                    connection.send(b"x")
                    time.sleep(0.05)
            answer = connection.getresponse()
            assert (answer.status, b"too slowly" in answer.read()) == (408, True)
    assert list((served.meta / "tmp").iterdir()) == []


@contextmanager
def _put_slowly(live: Live, key: str, size: int) -> Iterator[http.client.HTTPConnection]:
    """Begin to put a value of so many bytes."""
    with closing(http.client.HTTPConnection("127.0.0.1", live.port, timeout=20)) as connection:
        connection.putrequest("PUT", f"/{key}")
        connection.putheader("Authorization", f"Bearer {TOKEN}")
        connection.putheader("If-None-Match", "*")
        connection.putheader("Content-Length", str(size))
        connection.endheaders(b"half")
        yield connection


BOMBS = [
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b'{"schema":"mstore/registry/1","seq":' + b"9" * 100_000 + b"}",
    b'{"schema":1,"schema":2}',
    b'{"seq":NaN}',
    b"\xff\xfe",
    b"",
    b"null",
]


def test_documents_that_are_made_to_hurt_are_refused(served: Store, raw: Raw) -> None:
    """Depth, digits, keys that come twice, and what is no JSON: at once, and with nothing kept."""
    began = time.monotonic()
    for bomb in BOMBS:
        record = f"models/m/records/0000000001-{digest_of(bomb)}.json"
        for key in (REGISTRY, "models.json", record):
            assert raw.put(key, bomb)[0] in {412, 422}
    assert time.monotonic() - began < 20
    assert served.models() == []
    assert list(served.blobs.iter_digests()) == []


def test_many_readers_of_parts_get_their_bytes(served: Store, live: Live, tmp_path: Path) -> None:
    """32 clients that read parts of frames at the same time get every byte right."""
    with served.blobs.transaction() as transaction:
        digests = [transaction.add_bytes(noise(3_000_000, number)) for number in range(3)]
        transaction.publish()
    frames = [frame_of(served, digest) for digest in digests]
    random = Random(1)
    with at(live.url, {}) as remote:

        def read(_: int) -> None:
            for _ in range(6):
                number = random.randrange(3)
                start = random.randrange(len(frames[number]) - 1)
                stop = random.randrange(start + 1, len(frames[number]))
                part = remote.get_range(key_of(digests[number]), start, stop)
                assert part == frames[number][start:stop]

        at_once(32, read)
        for digest, frame in zip(digests, frames, strict=True):
            found = remote.head(key_of(digest))
            assert found is not None
            assert found.size == len(frame)
            assert b"".join(remote.stream(key_of(digest))) == frame


def test_a_token_stays_with_its_server(served: Store, tmp_path: Path) -> None:
    """A server that sends us on to another learns the token, and the other does not."""
    seen: list[tuple[str, str | None]] = []

    class Elsewhere(RangedHandler):
        def do_HEAD(self) -> None:  # noqa: N802  (the library's name)
            seen.append((self.path, self.headers.get("Authorization")))
            self.send_error(404)

    with web_server(tmp_path, Elsewhere) as there_:

        class Sending(RangedHandler):
            def do_HEAD(self) -> None:  # noqa: N802
                self.send_response(302)
                self.send_header("Location", there_.replace("127.0.0.1", "localhost") + "/x")
                self.send_header("Content-Length", "0")
                self.end_headers()

        with web_server(tmp_path, Sending) as url, at(url, MINE) as remote:
            assert remote.head("mstore.json") is None
    assert seen == [("/x", None)]


def test_parts_and_tags(served: Store, live: Live, tmp_path: Path) -> None:
    """Ranges, tags that change with the value, HEAD, 304 and 416, for frames and for documents."""
    commit_model(served, tmp_path / "run")
    digest = max(served.blobs.iter_digests(), key=lambda d: served.blobs.path(d).stat().st_size)
    bodies = {key_of(digest): frame_of(served, digest), REGISTRY: live.ask(f"/{REGISTRY}").body}
    for key, body in bodies.items():
        whole = live.ask(f"/{key}")
        tag = whole.headers["etag"]
        assert (whole.status, whole.body, tag[0]) == (200, body, '"')
        head = live.ask(f"/{key}", "HEAD")
        assert (head.body, head.headers["content-length"]) == (b"", str(len(body)))
        assert head.headers["etag"] == tag
        part = live.ask(f"/{key}", headers={"Range": "bytes=3-9", "If-Range": tag})
        assert (part.status, part.body) == (206, body[3:10])
        assert live.ask(f"/{key}", headers={"If-None-Match": tag}).status == 304
        beyond = live.ask(f"/{key}", headers={"Range": f"bytes={len(body)}-"})
        assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(body)}")
    set_alias(served, "prod", resolve(served, "v1.0"))
    assert live.ask(f"/{REGISTRY}").headers["etag"] != tag
