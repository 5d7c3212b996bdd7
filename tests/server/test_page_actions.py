"""What a browser may change: after signing in, by a form that it was given, and as the page said."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.pointer import set_active
from modelstore.ops.resolve import resolve
from modelstore.server.sessions import Sessions
from modelstore.store import Store, create
from tests.cli.program import environment
from tests.models import write_model
from tests.server.live import TOKEN, Answer, Live, serving

MODEL = ModelName("llama_1b")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ACTIVATE = f"/models/{MODEL}/versions/v1.1/activate"
ROLLBACK = f"/models/{MODEL}/rollback"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three versions, of which the first is ACTIVE and the second was before."""
    store = create(tmp_path / "tuned_models")
    for number in range(3):
        directory = write_model(tmp_path / f"{number}", step=0.001 * number)
        commit(store, directory, MODEL, CommitOptions(f"step {number}"))
    for version in ("v1.2", "v1.0"):
        set_active(store, resolve(store, f"{MODEL}@{version}"))
    return store


@pytest.fixture
def live(store: Store) -> Iterator[Live]:
    """A server that takes changes from whoever has the token."""
    with serving(store, token=TOKEN) as found:
        yield found


def post(live: Live, path: str, headers: dict[str, str] | None = None, **fields: str) -> Answer:
    """Send a form."""
    return live.ask(path, "POST", {**FORM, **(headers or {})}, urlencode(fields).encode())


def signed_in(live: Live) -> dict[str, str]:
    """Sign in, and return what a browser sends from then on."""
    answer = post(live, "/sign-in", token=TOKEN)
    assert answer.status == 303
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


def form(live: Live, path: str, headers: dict[str, str]) -> dict[str, str]:
    """Return the fields of the form that a page has."""
    text = live.ask(path, headers=headers).body.decode()
    return dict(
        re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text.split("<main")[1])
    )


def active(store: Store) -> str:
    """Return the ACTIVE version."""
    return store.state(MODEL).active


# --- what works


def test_a_version_is_made_active_by_its_form(live: Live, store: Store) -> None:
    """The page says what will change, the form changes it, and the journal says why."""
    headers = signed_in(live)
    page = live.ask(ACTIVATE, headers=headers).body.decode()
    assert page.index("v1.0") < page.index("Make v1.1 ACTIVE</button>")
    assert active(store) == "v1.0"
    answer = post(live, ACTIVATE, headers, **form(live, ACTIVATE, headers), why="it is better")
    assert (answer.status, answer.headers["location"]) == (303, f"/models/{MODEL}")
    assert active(store) == "v1.1"
    assert b"it is better" in live.ask(f"/models/{MODEL}/journal").body


def test_a_rollback_goes_back_one_move(live: Live, store: Store) -> None:
    """ACTIVE is what it was before; a second rollback goes on from there, as on the command line."""
    headers = signed_in(live)
    fields = form(live, ROLLBACK, headers)
    assert (fields["expected"], fields["version"]) == ("v1.0", "v1.2")
    assert post(live, ROLLBACK, headers, **fields).status == 303
    assert active(store) == "v1.2"
    assert store.state(MODEL).history[-1]["op"] == "rollback"


def test_the_token_in_the_address_signs_in_and_leaves_it(live: Live) -> None:
    """The address that the terminal prints is left for one that holds no token."""
    answer = live.ask(f"/sign-in?token={TOKEN}&next={quote(ACTIVATE)}")
    assert (answer.status, answer.headers["location"]) == (303, ACTIVATE)
    cookie = answer.headers["set-cookie"].lower()
    assert TOKEN.lower() not in cookie
    for part in ("httponly", "samesite=strict", "path=/"):
        assert part in cookie


def test_buttons_lead_to_the_form_for_the_token(live: Live) -> None:
    """Whoever has not signed in is asked to, and then is where they wanted to be."""
    assert b"activate" in live.ask(f"/models/{MODEL}/versions/v1.1").body
    answer = live.ask(ACTIVATE)
    assert (answer.status, answer.headers["location"]) == (
        302,
        f"/sign-in?next={quote(ACTIVATE, safe='')}",
    )


def test_signing_out_ends_it(live: Live, store: Store) -> None:
    """What the browser had is good for nothing afterwards."""
    headers = signed_in(live)
    fields = form(live, ACTIVATE, headers)
    assert post(live, "/sign-out", headers, seal=fields["seal"]).status == 303
    assert post(live, ACTIVATE, headers, **fields).status == 403
    assert active(store) == "v1.0"


# --- what does not


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "0", TOKEN.upper()])
def test_a_wrong_token_does_not_sign_in(live: Live, token: str) -> None:
    """The form comes back, says so, and no cookie is set."""
    answer = post(live, "/sign-in", token=token)
    assert answer.status == 403
    assert b"not the token" in answer.body
    assert "set-cookie" not in answer.headers


def test_forms_of_others_change_nothing(live: Live, store: Store) -> None:
    """No cookie, no seal, another's seal, a page of another site: refused, and ACTIVE stays."""
    headers, others = signed_in(live), signed_in(live)
    fields = form(live, ACTIVATE, headers)
    without = {name: value for name, value in fields.items() if name != "seal"}
    refused = [
        post(live, ACTIVATE, **fields),
        post(live, ACTIVATE, {"Cookie": 'mstore=x; a=b;;="'}, **fields),
        post(live, ACTIVATE, headers, **without),
        post(live, ACTIVATE, headers, **without, seal=form(live, ACTIVATE, others)["seal"]),
        post(live, ACTIVATE, {"Authorization": f"Bearer {TOKEN}"}, **fields),
        post(live, ACTIVATE, {**headers, "Origin": "http://evil.example"}, **fields),
        post(live, ACTIVATE, {**headers, "Sec-Fetch-Site": "cross-site"}, **fields),
        post(live, ACTIVATE, {**headers, "Origin": "null"}, **fields),
    ]
    assert [answer.status for answer in refused] == [403] * len(refused)
    assert live.ask(f"{ACTIVATE}?{urlencode(fields)}", headers=headers).status == 200
    assert active(store) == "v1.0"


def test_a_stale_form_changes_nothing(live: Live, store: Store) -> None:
    """Where ACTIVE is no longer what the page showed, nothing moves and the page says so."""
    headers = signed_in(live)
    forward, back = form(live, ACTIVATE, headers), form(live, ROLLBACK, headers)
    set_active(store, resolve(store, f"{MODEL}@v1.2"))
    for path, fields in ((ACTIVATE, forward), (ROLLBACK, back)):
        answer = post(live, path, {**headers, "Accept": "text/html"}, **fields)
        assert answer.status == 409
        assert b"no longer what the page showed" in answer.body
    assert active(store) == "v1.2"


@pytest.mark.parametrize(
    "then", ["//evil.example", "http://evil.example", "/\\evil.example", "/a\nb"]
)
def test_signing_in_leads_to_no_other_site(live: Live, then: str) -> None:
    """The address to go on to is one of this server's."""
    answer = live.ask(f"/sign-in?token={TOKEN}&next={quote(then)}")
    assert (answer.status, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("values", [{}, {"token": TOKEN, "read_only": True}])
def test_a_server_that_takes_no_changes_has_no_buttons(
    store: Store, values: dict[str, object]
) -> None:
    """No button, no form, and no change."""
    with serving(store, **values) as live:
        for path in ("/", f"/models/{MODEL}", f"/models/{MODEL}/versions/v1.1"):
            text = live.ask(path).body.decode()
            assert 'method="post"' not in text
            assert "activate" not in text
            assert "rollback" not in text
            assert "read-only" in text
        assert live.ask(ACTIVATE).status == 403
        assert post(live, ACTIVATE, seal="x", expected="v1.0").status == 403


def test_greedy_forms_are_refused(live: Live) -> None:
    """A form has an end, and so many fields."""
    assert live.ask("/sign-in", "POST", FORM, b"token=" + b"x" * 100_000).status == 413
    assert live.ask("/sign-in", "POST", FORM, b"&".join(b"a=1" for _ in range(1000))).status == 400
    assert live.ask("/sign-in", "POST", FORM, b"\xff\xfe=").status == 400


def test_another_machine_reads_after_signing_in(store: Store) -> None:
    """Where every request needs the token a cookie does, and the form for it is open to all."""
    with serving(store, host="0.0.0.0", token=TOKEN) as live:
        answer = live.ask("/", headers={"Accept": "text/html"})
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert str(store.root).encode() not in answer.body
        form_page = live.ask("/sign-in")
        assert form_page.status == 200
        assert str(store.root).encode() not in form_page.body
        assert live.ask("/", headers=signed_in(live)).status == 200
        assert live.ask("/", headers={"Cookie": f"mstore={TOKEN}"}).status == 401


def test_sign_ins_end_and_are_bounded() -> None:
    """The oldest goes when there are too many; none is good for another server."""
    sessions = Sessions()
    said = [sessions.begin() for _ in range(101)]
    known = [sessions.of({"cookie": f"{sessions.cookie}={one}"}) for one in said]
    assert (known[0], known[1:]) == ("", said[1:])
    assert not Sessions().of({"cookie": f"{sessions.cookie}={said[5]}"})
    assert not sessions.is_sealed(said[5], Sessions().seal(said[5]))
    assert not sessions.is_sealed("", sessions.seal(""))


def test_the_terminal_prints_an_address_that_signs_in(store: Store) -> None:
    """Whoever opens what ``mstore serve --token`` prints may change the store."""
    command = [sys.executable, "-m", "modelstore", "-C", str(store.root), "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--token"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            address = urlsplit(process.stdout.readline().strip().removeprefix("in a browser: "))
            live = Live(f"http://{address.netloc}", address.port or 0, [])
            answer = live.ask(f"{address.path}?{address.query}")
            headers = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
            assert b"Sign out" in live.ask("/", headers=headers).body
        finally:
            process.terminate()
            process.communicate(timeout=30)
