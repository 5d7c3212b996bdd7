"""The pages: every view of a small, an empty, a huge and a damaged store; and hostile content."""

from __future__ import annotations

import json
import re
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from modelstore.curve import CurvePoint
from modelstore.errors import IntegrityError
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.diff import Difference, diff
from modelstore.ops.pointer import add_note, set_active, set_alias
from modelstore.ops.resolve import resolve
from modelstore.server.comparing import AT_ONCE, Comparisons
from modelstore.server.errors import Refused
from modelstore.server.pages import compare
from modelstore.server.pages.markdown import as_html
from modelstore.server.pages.rendering import POLICY
from modelstore.server.pages.settings_of import Setting
from modelstore.state import Change
from modelstore.store import Store, create
from tests.builders import Values, safetensors_bytes
from tests.models import write_model
from tests.server.live import Answer, Live, serving

MODEL = ModelName("llama_1b")
OTHER = ModelName("other")
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202egnp.exe"
HTML = {"Accept": "text/html"}

CURVE = tuple(
    CurvePoint(step, f"{2 - step / 100:.3f}", "1.5" if step == 40 else "") for step in range(60)
)

CARD = "---\nlicense: mit\n---\n# A card\n\n![chart](loss.svg) [config](config.json)"

VIEWS = [
    "/",
    "/models",
    "/storage",
    "/journal",
    "/compare",
    "/compare?a=llama_1b@v1.0&b=llama_1b@v1.2",
    "/compare?a=llama_1b@v1.0&b=other@v1.0&every=1",
    "/sign-in",
    "/models/llama_1b",
    "/models/llama_1b/metrics",
    "/models/llama_1b/metrics?v=v1.1&v=v1.2&v=v1.0",
    "/models/llama_1b/lineage",
    "/models/llama_1b/storage",
    "/models/llama_1b/journal",
    "/models/llama_1b/versions/v1.1",
    "/models/llama_1b/versions/prod",
    "/models/llama_1b/versions/v1.1/files",
    "/models/llama_1b/versions/v1.1/tensors",
    "/models/llama_1b/versions/v1.1/tensors?q=NORM",
    "/models/llama_1b/versions/v1.1/use",
]


VOID = {"meta", "link", "input", "img", "br", "hr", "rect", "path", "circle", "line", "use"}


class Outline(HTMLParser):
    """What a page is made of; elements without an end are not looked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that ends where it begins, as in SVG."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Note what is closed out of order."""
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a kind."""
        return [attrs for name, attrs in self.elements if name == tag]


def check(answer: Answer, status: int = 200) -> Outline:
    """Check what holds for every page, and return what it is made of."""
    assert answer.status == status, answer.body[-2000:]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    text = answer.body.decode()
    page = Outline(text)
    assert not page.unbalanced, page.unbalanced
    assert not page.open, page.open
    assert len(page.all("h1")) == 1
    assert not page.all("style")
    for tag, attrs in page.elements:
        assert "style" not in attrs, (tag, attrs)
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        for name in ("src", "href", "action", "formaction"):
            value = attrs.get(name)
            assert (
                value is None
                or value.startswith(("/", "#"))
                or "nofollow" in (attrs.get("rel") or "")
            )
    assert all(attrs.get("src") for attrs in page.all("script"))
    assert (
        all(attrs.get("scope") in {"col", "row"} for attrs in page.all("th")) or "markdown" in text
    )
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    return page


def text_of(answer: Answer) -> str:
    """Return a page as text with single spaces."""
    return " ".join(re.sub("<[^>]+>", " ", answer.body.decode()).split())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three versions of a line, with metrics and curves; v1.1 is called prod. And another line."""
    root = tmp_path_factory.mktemp("pages")
    store = create(root / "tuned_models")
    for number in range(3):
        files: dict[str, bytes | str] = {
            "README.md": f"{CARD} {EVIL}\n",
            "loss.svg": "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
            "config.json": f'{{"hidden_size": 16, "dropout": 0.{number}, "same": true}}',
            "pytorch_model.bin": b"not a pickle",
        }
        directory = write_model(root / f"v1.{number}", seed=1, step=0.001 * number, files=files)
        options = CommitOptions(
            f"step {number}\n\nmore of it",
            author="Ann",
            metrics={"eval_loss": 2.0 - number / 10, "steps": 60},
            parameters={"learning_rate": 0.001 * (number + 1)},
            data=[{"name": "rows.jsonl", "rows": 100, "size": 1234, "blake3": "0" * 64}],
            environment={"torch": "2.13"},
            curve=CURVE if number else (),
        )
        commit(store, directory, MODEL, options)
    set_alias(store, "prod", resolve(store, f"{MODEL}@v1.1"))
    set_active(store, resolve(store, f"{MODEL}@v1.1"), why="better")
    set_active(store, resolve(store, f"{MODEL}@v1.2"))
    add_note(store, resolve(store, f"{MODEL}@v1.2"), "keep this one")
    commit(store, write_model(root / "o", seed=9), OTHER, CommitOptions("another model"))
    return store


@pytest.fixture(scope="module")
def live(store: Store) -> Iterator[Live]:
    """The server of that store; nothing can be changed."""
    with serving(store) as found:
        yield found


# --- every view


@pytest.mark.parametrize("path", VIEWS)
def test_every_view_is_a_sound_page(live: Live, path: str) -> None:
    """One first heading, no style or script within, nothing from elsewhere, one policy."""
    page = check(live.ask(path))
    assert not [
        form for form in page.all("form") if form.get("method") == "post" and path != "/sign-in"
    ]
    assert not live.reports


def test_the_list_of_models_says_what_matters(live: Live) -> None:
    """ACTIVE, the number of versions, and what was saved."""
    said = text_of(live.ask("/"))
    assert re.search(r"llama_1b v1\.2 3 \S+ kB \S+ kB \d+ % \w", said)
    assert "saved" in said


def test_a_timeline_has_marks_and_costs(live: Live) -> None:
    """The newest first, with ACTIVE, aliases, who and when, metrics and what each cost."""
    answer = live.ask("/models/llama_1b")
    said = text_of(answer)
    assert said.index("v1.2 ACTIVE") < said.index("v1.1 prod") < said.index("step 0")
    assert "eval_loss 1.8" in said
    assert "steps 60" not in said
    times = Outline(answer.body.decode()).all("time")
    assert all(re.fullmatch(r"20..-..-..T..:..:..Z", str(attrs["datetime"])) for attrs in times)
    assert len(times) == 3


def test_a_version_shows_where_it_comes_from(live: Live) -> None:
    """Parent, data, parameters, environment, notes, and the card without what hubs read."""
    answer = live.ask("/models/llama_1b/versions/v1.2")
    said = text_of(answer)
    for part in (
        "llama_1b@v1.1",
        "rows.jsonl",
        "learning_rate 0.003",
        "torch 2.13",
        "keep this one",
        "A card",
    ):
        assert part in said, part
    assert "license: mit" not in said
    page = Outline(answer.body.decode())
    assert {"/models/llama_1b/versions/v1.2/image/loss.svg"} == {a["src"] for a in page.all("img")}
    assert "/mstore/llama_1b/resolve/v1.2/config.json" in {a.get("href") for a in page.all("a")}


def test_files_can_be_downloaded_unless_they_may_run_code(live: Live, store: Store) -> None:
    """The links of a version's files give their bytes; a pickle has none."""
    page = check(live.ask("/models/llama_1b/versions/v1.0/files"))
    links = {a["href"] for a in page.all("a") if "download" in a}
    assert "/mstore/llama_1b/resolve/v1.0/model.safetensors" in links
    assert not any(str(link).endswith(".bin") for link in links)
    for link in links:
        assert live.ask(str(link)).status == 200


def test_pictures_of_cards_cannot_run(live: Live) -> None:
    """SVG is shown as a picture; opened by itself it is in a sandbox."""
    answer = live.ask("/models/llama_1b/versions/v1.1/image/loss.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-security-policy"].endswith("sandbox")
    assert live.ask("/models/llama_1b/versions/v1.1/image/config.json", headers=HTML).status == 404


def test_a_comparison_says_what_differs_and_what_is_equal(live: Live) -> None:
    """Parameters, metrics, configuration and tensors; what is equal only when asked for."""
    answer = live.ask("/compare?a=llama_1b@v1.0&b=llama_1b@v1.2")
    said = text_of(answer)
    assert "config.json › dropout 0.0 0.2" in said
    assert "config.json › same" not in said
    assert "learning_rate 0.001 0.003" in said
    assert "model.layers.0.mlp.weight modified" in said
    assert "config.json › same" in text_of(
        live.ask("/compare?a=llama_1b@v1.0&b=llama_1b@v1.2&every=1")
    )


def test_ticked_rows_lead_to_a_comparison(live: Live) -> None:
    """The older one comes first, whatever the order of the ticks; one alone leads to the form."""
    answer = live.ask("/models/llama_1b/compare?v=v1.2&v=v1.0")
    assert answer.headers["location"] == "/compare?a=llama_1b%40v1.0&b=llama_1b%40v1.2"
    assert (
        live.ask("/models/llama_1b/compare?v=v1.2").headers["location"]
        == "/compare?a=llama_1b%40v1.2"
    )


def test_what_cannot_be_compared_is_said_in_the_form(live: Live) -> None:
    """A ref that means nothing keeps what was typed."""
    answer = live.ask(f"/compare?a=llama_1b@v9.9&b={'x' * 5000}")
    page = check(answer, 404)
    assert "llama_1b@v9.9" in {attrs.get("value") for attrs in page.all("input")}


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/mstore/llama_1b", "/models/llama_1b"),
        ("/mstore/llama_1b/tree/main", "/models/llama_1b/versions/v1.2/files"),
        ("/mstore/llama_1b/blob/v1.0/config.json", "/models/llama_1b/versions/v1.0/files"),
    ],
)
def test_addresses_of_the_hub_lead_to_pages(live: Live, path: str, target: str) -> None:
    """What clients of the Hub print as a link opens the page of the same thing."""
    answer = live.ask(path)
    assert (answer.status, answer.headers["location"]) == (302, target)


def test_charts_are_there(live: Live) -> None:
    """Pictures that need no script: costs, metrics, curves, lineage, the heat map; each with a name."""
    for path in (
        "/models/llama_1b/metrics",
        "/models/llama_1b/lineage",
        "/models/llama_1b/storage",
        "/compare?a=llama_1b@v1.0&b=llama_1b@v1.2",
    ):
        text = live.ask(path).body.decode()
        found = re.findall(r"<svg[^>]*role=\"(?:img|group)\".*?</svg>", text, re.DOTALL)
        assert found, path
        for svg in found:
            ET.fromstring(svg)
            assert "<title" in svg


def test_static_files_are_kept_by_their_content(live: Live) -> None:
    """A page names its style with a digest, and a browser keeps that for ever."""
    page = Outline(live.ask("/").body.decode())
    for link in (*page.all("link"), *page.all("script")):
        answer = live.ask(str(link.get("href") or link.get("src")))
        assert answer.status == 200
        assert "immutable" in answer.headers["cache-control"]
    assert live.ask("/static/../app.py", headers=HTML).status == 404
    assert live.ask("/static/%2e%2e/app.py", headers=HTML).status == 404


def test_the_first_page_is_light(live: Live) -> None:
    """Page, style and script together stay far below 150 kB."""
    for path in ("/", "/models/llama_1b", "/models/llama_1b/metrics"):
        answer = live.ask(path)
        page = Outline(answer.body.decode())
        links = [
            str(one.get("href") or one.get("src"))
            for one in (*page.all("link"), *page.all("script"))
        ]
        assert len(answer.body) + sum(len(live.ask(link).body) for link in links) < 150_000


# --- other stores


def test_an_empty_store_says_what_to_type(tmp_path: Path) -> None:
    """Each page of a store without models is sound, and the first one names the next command."""
    with serving(create(tmp_path / "tuned_models")) as live:
        for path in ("/", "/storage", "/journal", "/compare"):
            check(live.ask(path))
        assert "commit DIR -M MODEL" in text_of(live.ask("/"))


def test_ten_thousand_versions_are_paged(tmp_path: Path) -> None:
    """Fifty versions a page; the last page is as quick as the first, and charts show the newest."""
    store = create(tmp_path / "tuned_models")
    versions = {
        f"v1.{n}": {
            "created_at": "2026-01-01T00:00:00Z",
            "seq": 1 + n,
            "message": f"step {n}",
            "metrics": {"loss": 2 - n / 10_000},
            "sizes": {"logical": 1_000_000, "stored": 1000 + n},
        }
        for n in range(10_000)
    }
    with store.lock():
        store.registry(MODEL).change(
            lambda _: Change("adopt", versions=versions), "2026-01-01T00:00:00Z"
        )
    with serving(store) as live:
        for path in (
            "",
            "?page=200",
            "?page=99999999",
            "/metrics",
            "/lineage",
            "/storage",
            "/journal",
        ):
            answer = live.ask(f"/models/{MODEL}{path}")
            check(answer)
            assert len(answer.body) < 400_000, path
        assert "step 0" in text_of(live.ask(f"/models/{MODEL}?page=200"))
        check(live.ask("/"))
        check(live.ask("/compare"))


def test_damage_is_a_page(tmp_path: Path) -> None:
    """A registry or a frame that is damaged is named, with the next command; the rest still works."""
    store = create(tmp_path / "tuned_models")
    for model in (MODEL, OTHER):
        commit(store, write_model(tmp_path / model, seed=len(model)), model, CommitOptions("first"))
        commit(store, write_model(tmp_path / model, seed=99), model, CommitOptions("second"))
    for path in (
        store.root / MODEL / "model_registry.json",
        *(store.meta / "refs" / MODEL).iterdir(),
    ):
        path.write_bytes(b"{")
    (store.root / MODEL / "journal.jsonl").write_bytes(b"{}")
    entry = store.state(OTHER).entry("v1.1")
    assert entry is not None
    manifest = store.manifest(OTHER, entry)
    frame = store.blobs.path(manifest.file("model.safetensors").spans[1].blob)
    frame.chmod(0o644)
    frame.write_bytes(frame.read_bytes()[:40])
    with serving(store) as live:
        said = text_of(live.ask("/"))
        assert "damaged" in said
        assert "other v1.0 2" in said
        answer = live.ask(f"/models/{MODEL}", headers=HTML)
        check(answer, 500)
        assert "mstore fsck" in text_of(answer) or "git" in text_of(answer)
        check(live.ask("/models/other/versions/v1.1"))
        check(live.ask("/storage"))
        compared = live.ask("/compare?a=other@v1.0&b=other@v1.1")
        check(compared)
        assert "damaged" in text_of(compared) or "fsck" in text_of(compared)


def test_a_version_whose_manifest_is_gone_still_has_a_page(tmp_path: Path) -> None:
    """What the registry knows is shown, with what is wrong."""
    store = create(tmp_path / "tuned_models")
    commit(store, write_model(tmp_path / "a"), MODEL, CommitOptions("first"))
    entry = store.state(MODEL).entry("v1.0")
    assert entry is not None
    assert entry.id is not None
    store.blobs.path(entry.id).unlink()
    (store.version_dir(MODEL, "v1.0") / "manifest.json").unlink()
    with serving(store) as live:
        for end in ("", "/files", "/tensors", "/use"):
            answer = live.ask(f"/models/{MODEL}/versions/v1.0{end}")
            check(answer)
            assert "is not here" in text_of(answer)


@pytest.mark.parametrize(
    "path",
    ["/models/none", "/models/llama_1b/versions/v9.9", "/models/..%2f..%2fetc", "/nothing/at/all",
     "/models/llama_1b/versions/%3Cscript%3E", "/models/%E2%80%AE", "/models/llama_1b/nothing"],
)  # fmt: skip
def test_what_is_not_there_is_a_page(live: Live, path: str) -> None:
    """A browser is told in the same style; a client that asks for no page gets JSON where it did."""
    check(live.ask(path, headers=HTML), 404)


def test_clients_of_the_hub_get_json(live: Live) -> None:
    """Whatever they accept, errors of the Hub's routes are what its clients parse."""
    for path in ("/api/models/none", "/none/resolve/main/config.json"):
        answer = live.ask(path, headers={"Accept": "text/html,*/*"})
        assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound")
    assert live.ask("/nothing").json == {"error": "Not Found"}


def test_long_values_are_shown_where_they_differ() -> None:
    """Of two long texts what they share is left out, or both would look the same."""
    before, after = Setting("x", "a" * 900 + "b", "a" * 900 + "c").sides
    assert before is not None
    assert after is not None
    assert (len(before), before[-1], after[-1]) == (62, "b", "c")
    assert Setting("x", 0.1, None).sides == ("0.1", None)
    assert Setting("x", 0.12345678, 0.12345679).sides == ("0.12345678", "0.12345679")


# --- comparisons that take long


def test_a_long_comparison_says_so_and_is_there_later(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page does not wait; it says what is going on, loads itself again, and then has the tensors."""
    monkeypatch.setattr(compare, "_WAIT_SECONDS", 0.0)
    path = "/compare?a=llama_1b@v1.1&b=other@v1.0"
    answer = live.ask(path)
    check(answer)
    if "being compared" in text_of(answer):  # it may have been quick
        assert b'http-equiv="refresh"' in answer.body
    for _ in range(100):
        answer = live.ask(path)
        if "being compared" not in text_of(answer):
            break
        time.sleep(0.05)
    assert "model.layers.0.mlp.weight modified" in text_of(answer)


def test_comparisons_are_few_at_once_and_kept(store: Store) -> None:
    """Two are made at a time, some wait, more are refused; what is done is not made again."""
    go, made = threading.Event(), []

    def slow(*args: Any, **options: Any) -> Difference:
        made.append(args)
        assert go.wait(30)
        return diff(*args, **options)

    names = [f"{MODEL}@v1.{number}" for number in range(3)]
    pairs = [(resolve(store, a), resolve(store, b)) for a in names for b in names]
    comparisons = Comparisons(store, slow)
    found = [comparisons.of(*pair) for pair in pairs[:8]]
    with pytest.raises(Refused, match="too many"):
        comparisons.of(*pairs[8])
    assert comparisons.of(*pairs[0]) is found[0]
    assert len(made) <= AT_ONCE
    go.set()
    assert all(one.difference.result(30) is not None for one in found)
    assert comparisons.of(*pairs[1]) is found[1]
    comparisons.of(*pairs[8]).difference.result(30)
    comparisons.close()
    assert len(made) == 9


def test_a_comparison_that_failed_or_was_left_is_made_again(store: Store) -> None:
    """Damage may have been mended; and what nobody waits for ends by itself."""
    times = []

    def failing(*args: Any, progress: Any) -> Difference:
        times.append(1)
        if len(times) == 1:
            raise IntegrityError("damaged")
        return diff(*args, progress=progress)

    pair = resolve(store, f"{MODEL}@v1.0"), resolve(store, f"{MODEL}@v1.1")
    comparisons = Comparisons(store, failing)
    assert isinstance(comparisons.of(*pair).difference.exception(30), IntegrityError)
    again = comparisons.of(*pair)
    assert again.difference.result(30).before == pair[0]
    comparisons.close()


# --- hostile content


def test_hostile_content_is_text(tmp_path: Path) -> None:
    """Messages, authors, metrics, tensors, files, notes, cards: no markup of theirs is markup."""
    store = create(tmp_path / "tuned_models")
    for number in range(2):
        tensors = {
            f"model.layers.0.{EVIL}": Values("F32", (4,), bytes([number] * 16)),
            "w" * 3000: Values("F32", (4,), bytes([number] * 16)),
        }
        files = {
            "model.safetensors": safetensors_bytes(tensors),
            "config.json": json.dumps({"<b>key</b>": f"<script>alert(2)</script>{number}"}),
            "README.md": f"{EVIL}\n\n[x](javascript:alert(1)) ![y](http://evil.example/x.png) <b>no</b>",
            "a'b&c.txt": "x",
        }
        options = CommitOptions(
            EVIL,
            author=EVIL,
            note=EVIL,
            description=EVIL,
            base_model=EVIL,
            metrics={EVIL: 1.5 + number, "loss": EVIL},
            parameters={EVIL: EVIL},
            data=[{"name": EVIL, "rows": 3}],
            environment={EVIL: EVIL},
            curve=CURVE,
        )
        commit(store, write_model(tmp_path / f"{number}", files=files), MODEL, options)
    with serving(store) as live:
        for path in VIEWS:
            if "other" in path or "prod" in path or "v1.2" in path:
                continue
            page = check(live.ask(path))
            text = live.ask(path).body.decode()
            assert "<script>alert" not in text
            assert "\u202e" not in text
            assert not [
                attrs for attrs in page.all("img") if "/image/" not in str(attrs.get("src"))
            ]
        check(live.ask("/compare?a=llama_1b@v1.0&b=llama_1b@v1.1"))
        assert not live.reports


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("?page=-1", 200),
        ("?page=1e9", 200),
        ("?page=%00", 200),
        ("/journal?before=99999999999999999999", 200),
        ("/metrics?v=%00&v=v1.0&v=v99999999999.1", 200),
        ("/versions/%00", 400),
        ("/versions/v1.0/image/..%2f..%2fconfig.json", 404),
        ("/versions/v1.0/tensors?q=" + "x" * 5000, 200),
    ],
)
def test_odd_addresses_are_answered_in_order(live: Live, path: str, status: int) -> None:
    """What nobody would type is the nearest there is, or a refusal; never an error of the server."""
    check(live.ask(f"/models/{MODEL}{path}", headers=HTML), status)


def test_odd_configurations_are_compared(tmp_path: Path) -> None:
    """Files that are no JSON, too deep, or of another shape are files like others."""
    store = create(tmp_path / "tuned_models")
    odd = ['{"a":' * 900 + "1" + "}" * 900, '{"a":' * 985 + "1" + "}" * 985, "[1", '{"b":1e999}']
    tokenizers = [
        '{"model":{"vocab":{"a":1}}}',
        '{"model":[1]}',
        "no",
        '{"added_tokens":[{"content":1},7]}',
    ]
    for number, (config, tokenizer) in enumerate(zip(odd, tokenizers, strict=True)):
        files: dict[str, bytes | str] = {"config.json": config, "tokenizer.json": tokenizer}
        commit(store, write_model(tmp_path / f"{number}", files=files), MODEL, CommitOptions("x"))
    with serving(store) as live:
        for a in range(4):
            for b in range(4):
                check(live.ask(f"/compare?a={MODEL}@v1.{a}&b={MODEL}@v1.{b}&every=1"))
        assert not live.reports


@pytest.mark.parametrize(
    "text",
    [
        "[x](javascript:alert(1))",
        "[x](data:text/html,x)",
        "[x](vbscript:x)",
        "[x](//evil.example/x)",
        "[x](/\\evil.example)",
        "![x](http://evil.example/x.png)",
        "![x](//evil.example/x.png)",
        "![x](data:image/svg+xml,x)",
        '<a href="javascript:alert(1)">x</a>',
        "<iframe src=http://evil.example></iframe>",
        '![x](loss.svg "a\\" onerror=\\"alert(1)")',
        "[x]: javascript:alert(1)\n\n[x]",
    ],
)
def test_a_card_loads_and_runs_nothing(text: str) -> None:
    """No tag of the card's own, no address that runs, no picture from elsewhere."""
    page = Outline(str(as_html(text, lambda path: "", lambda path: "")))
    for tag, attrs in page.elements:
        assert tag in {"p", "a", "span"}
        assert not {"src", "onerror", "style"} & attrs.keys()
        assert attrs.get("href") is None


def test_ordinary_links_of_a_card_stay() -> None:
    """Links to elsewhere say no referrer, tables keep their alignment without style."""
    text = "[x](https://example.org/a?b=1&c=2)\n\n| a |\n|--:|\n| 1 |\n"
    html = str(as_html(text, lambda path: "", lambda path: ""))
    assert 'href="https://example.org/a?b=1&amp;c=2" rel="noopener noreferrer nofollow"' in html
    assert 'class="to-right"' in html
    assert "style" not in html
