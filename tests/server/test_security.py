"""Who is served and who is not; and that no request reaches a file that is not a version's."""

from __future__ import annotations

import base64
import http.client
import socket
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, UsageError
from modelstore.server.errors import Refused
from modelstore.server.running import bind
from modelstore.server.security import is_token, require_write, token_of
from modelstore.server.settings import ServeSettings
from modelstore.store import Store, create
from tests.server.conftest import Scene
from tests.server.live import TOKEN, Answer, Live, serving

API = "/api/models/llama_1b"
OTHER = {"Host": "192.0.2.7:80"}


# --- Host and Origin


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:7878", "localhost:1", "LOCALHOST", "localhost.", "[::1]:7878"]
)
def test_names_of_this_machine_are_served(scene: Scene, host: str) -> None:
    """A server on this machine goes by the names that every machine has for itself."""
    assert scene.live.ask(API, headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.7", "[::2]",
     "evil.example@127.0.0.1:80/x", "127.0.0.1 evil.example", "[", "0x7f.1", "2130706433", ""],
)  # fmt: skip
def test_a_name_that_was_rebound_is_refused(scene: Scene, host: str) -> None:
    """A page whose name was made to mean this machine learns nothing (DNS rebinding)."""
    answer = scene.live.ask(API, headers={"Host": host})
    assert answer.status == 400
    assert b"siblings" not in answer.body


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_cannot_post(scene: Scene, headers: dict[str, str]) -> None:
    """What a browser sends for a page of another site changes nothing."""
    answer = scene.live.ask("/api/validate-yaml", "POST", headers, b"{}")
    assert (answer.status, answer.json["error"]) == (403, "a page of another site asked for this")


def test_our_own_pages_can_post(scene: Scene) -> None:
    """A form of the server's own page is let through."""
    headers = {"Origin": scene.live.url, "Sec-Fetch-Site": "same-origin"}
    assert scene.live.ask("/api/validate-yaml", "POST", headers, b"{}").status == 200


def test_no_answer_can_run_or_be_framed_or_be_read_by_other_sites(scene: Scene) -> None:
    """Files are attachments of no type, in a sandbox; refusals are no different."""
    for path in ("/llama_1b/resolve/main/README.md", API, "/nothing"):
        headers = scene.live.ask(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "sandbox" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    file = scene.live.ask("/llama_1b/resolve/main/README.md").headers
    assert file["content-type"] == "application/octet-stream"
    assert file["content-disposition"].startswith("attachment")


# --- tokens


def test_another_machine_is_served_with_the_token_only(scene: Scene) -> None:
    """Bound to an address that others reach, every request says the token, in either way."""
    with serving(scene.store, host="0.0.0.0", token=TOKEN) as live:
        basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
        for said in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {basic}"):
            assert live.ask(API, headers={**OTHER, "Authorization": said}).status == 200
        for said in (
            "",
            "Bearer",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            "Basic !",
            "Basic YQ==",
        ):
            answer = live.ask(API, headers={**OTHER, "Authorization": said})
            assert (answer.status, b"siblings" in answer.body) == (401, False)
            assert "basic" in answer.headers["www-authenticate"].lower()
        rebound = {"Host": "evil.example", "Authorization": f"Bearer {TOKEN}"}
        assert live.ask(API, headers=rebound).status == 400
        assert not any(TOKEN in line for line in live.reports)


def test_this_machine_reads_without_the_token(scene: Scene) -> None:
    """On loopback a token is for changes; any other token that a client has does no harm."""
    with serving(scene.store, token=TOKEN) as live:
        assert live.ask(API).status == 200
        assert live.ask(API, headers={"Authorization": "Bearer hf_of_the_real_hub"}).status == 200
        assert live.ask("/api/whoami-v2").status == 401
        mine = {"Authorization": f"Bearer {TOKEN}"}
        assert (
            live.ask("/api/whoami-v2", headers=mine).json["auth"]["accessToken"]["role"] == "write"
        )


@pytest.mark.parametrize(
    ("values", "said", "status"),
    [
        ({"token": TOKEN}, TOKEN, 0),
        ({"token": TOKEN}, TOKEN + "x", 401),
        ({"token": TOKEN}, None, 401),
        ({"token": TOKEN, "read_only": True}, TOKEN, 403),
        ({}, "", 403),
        ({}, None, 403),
    ],
)
def test_changes_need_the_token(values: dict[str, str], said: str | None, status: int) -> None:
    """Without a token nobody changes anything, and on a read-only server nobody at all."""
    from starlette.requests import Request

    headers = [] if said is None else [(b"authorization", f"Bearer {said}".encode())]
    request = Request({"type": "http", "headers": headers, "method": "POST", "path": "/"})
    settings = ServeSettings(**values)
    if not status:
        require_write(request, settings)
        return
    with pytest.raises(Refused) as refused:
        require_write(request, settings)
    assert refused.value.status == status


def test_no_token_is_never_the_token() -> None:
    """A server without a token takes none for its own, not even the empty one."""
    assert not is_token("", ServeSettings())
    assert token_of({"authorization": "Digest x"}) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "my-machine"])
def test_another_address_takes_a_token(host: str) -> None:
    """Where other machines can connect, starting without a token is an error that says how."""
    with pytest.raises(UsageError, match="needs a token") as error:
        ServeSettings(host)
    assert "--token" in error.value.hint


@pytest.mark.parametrize("token", ["short", "ü" * 40])
def test_a_token_is_hard_to_guess(token: str) -> None:
    """Short tokens are refused."""
    with pytest.raises(UsageError, match="16 or more"):
        ServeSettings(token=token)


def test_a_port_that_is_taken_is_said() -> None:
    """The error names the port, and the hint another one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match=f"listens on port {port}") as error:
            bind(ServeSettings(port=port))
    assert "--port" in error.value.hint


def test_an_address_of_another_machine_is_said() -> None:
    """One cannot listen where one is not."""
    with pytest.raises(UsageError, match="cannot listen on"):
        bind(ServeSettings("192.0.2.1", 0, TOKEN))


# --- pickles


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_files_that_may_run_code_are_not_handed_out(scene: Scene, method: str) -> None:
    """A 403 says which option would; the file is listed all the same."""
    answer = scene.live.ask("/llama_1b/resolve/main/pytorch_model.bin", method)
    assert answer.status == 403
    assert "--allow-pickle" in answer.headers["x-error-message"]


def test_pickles_are_bytes_to_those_who_allow_them(scene: Scene) -> None:
    """With --allow-pickle they are served, and never looked into."""
    with serving(scene.store, allow_pickle=True) as live:
        assert live.ask("/llama_1b/resolve/main/pytorch_model.bin").body == b"not a pickle"


# --- paths

UP = ["..", "%2e%2e", "%2E%2e", ".%2e", "%252e%252e", "%25252e%25252e", "..%00", "%c0%ae%c0%ae",
      "..%5c..", "....", "%uff0e%uff0e", "..;"]  # fmt: skip
SEPARATORS = ["/", "%2f", "%252f", "\\", "%5c", "%255c", "//"]


def _raw(live: Live, path: str) -> Answer:
    """Send a path that a client would not, byte by byte."""
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=20)
    connection.putrequest("GET", "/", skip_host=True)
    connection._buffer[0] = f"GET {path} HTTP/1.1".encode("latin-1")  # type: ignore[attr-defined]
    connection.putheader("Host", "127.0.0.1")
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return Answer(response.status, dict(response.getheaders()), body)


@pytest.mark.parametrize("separator", SEPARATORS)
def test_no_path_leads_out_of_a_version(scene: Scene, separator: str) -> None:
    """However it is spelt, a way up leads nowhere; what is not a file of the version is a 404."""
    (scene.store.root.parent / "secret.txt").write_text("SECRET")
    for up in UP:
        for depth in (1, 3, 6):
            climb = (up + separator) * depth
            for path in (
                f"/llama_1b/resolve/main/{climb}secret.txt",
                f"/llama_1b/resolve/main/extra/{climb}secret.txt",
                f"/llama_1b/resolve/{climb}secret.txt/x",
                f"/{climb}secret.txt",
                f"/api/models/{climb}llama_1b/tree/main",
                f"/api/models/llama_1b/tree/main/{climb}..",
            ):
                answer = _raw(scene.live, path)
                assert answer.status in (400, 404), path
                assert b"SECRET" not in answer.body


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "//etc/passwd", "/llama_1b/resolve/main//etc/passwd", "/.mstore/format.json",
     "/llama_1b/model_registry.json", "/llama_1b/resolve/main/.mstore/format.json",
     "/llama_1b/resolve/main/C:/x", "/llama_1b/resolve/main/%00", "/llama_1b/resolve/main/con",
     "/.mstore/resolve/main/config.json", "/..%2f/resolve/main/x",
     "/llama_1b/resolve/main/" + "a" * 9000,
     "/%ff%fe/resolve/main/x", "/llama_1b/resolve/%ff/x", "/llama_1b/resolve/main/config.json/"],
)  # fmt: skip
def test_nothing_but_files_of_versions_is_served(scene: Scene, path: str) -> None:
    """Neither the disk, nor the store's own files, nor a name that no system could have."""
    answer = _raw(scene.live, path)
    assert answer.status == 404
    assert b"Traceback" not in answer.body


def test_a_bug_is_not_shown_to_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that fails says nothing of the program; the terminal says what failed."""
    store = create(tmp_path / "tuned_models")

    def broken(self: Store) -> list[str]:
        raise RuntimeError("in /some/place")

    with serving(store) as live:
        monkeypatch.setattr(Store, "models", broken)
        answer = live.ask("/api/models")
        assert answer.status == 500
        assert b"/some/place" not in answer.body
        assert live.reports == ["GET /api/models: RuntimeError: in /some/place"]


# --- the keys of a remote


@pytest.mark.parametrize("separator", SEPARATORS)
def test_no_key_leads_out_of_the_store(scene: Scene, separator: str) -> None:
    """The face that is a remote has exactly its keys, whatever a way up is spelt like."""
    (scene.store.root.parent / "secret.txt").write_text("SECRET")
    for up in UP:
        for depth in (1, 3, 6):
            climb = (up + separator) * depth
            for path in (
                f"/blobs/{climb}secret.txt",
                f"/blobs/00/{climb}secret.txt",
                f"/models/{climb}secret.txt/registry.json",
                f"/models/llama_1b/records/{climb}secret.txt",
                f"/models/{climb}registry.json",
                f"/models.json{separator}{climb}secret.txt",
            ):
                answer = _raw(scene.live, path)
                assert answer.status in (400, 404), path
                assert b"SECRET" not in answer.body
            listed = scene.live.ask(f"/api/mstore/keys?prefix={climb.replace(chr(92), '%5c')}")
            assert listed.status in (200, 400)
            assert listed.json.get("keys", []) == []


@pytest.mark.parametrize(
    "query", ["after=%00", "after=~&prefix=blobs", "prefix=blobs&after=" + "a" * 9000]
)
def test_a_listing_can_be_asked_for_anything(scene: Scene, query: str) -> None:
    """Whatever it is to begin after, the answer is a list of keys."""
    assert isinstance(scene.live.ask(f"/api/mstore/keys?{query}").json["keys"], list)


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By digests of one length, and by the function that is there for it."""
    compared: list[tuple[str, str]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    settings = ServeSettings(token=TOKEN)
    assert is_token(TOKEN, settings)
    for said in ("", "x", TOKEN[:-1], "\ud800", TOKEN + "x" * 9999):
        assert not is_token(said, settings)
    assert {len(one) for pair in compared for one in pair} == {64}
