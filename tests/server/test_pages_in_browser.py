"""The pages in a real browser: every view, wide and narrow, light and dark, with and without scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, expect

from modelstore.curve import CurvePoint
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.pointer import set_active, set_alias
from modelstore.ops.resolve import resolve
from modelstore.server.pages import compare
from modelstore.state import Change
from modelstore.store import Store, create
from tests.builders import Values, safetensors_bytes
from tests.models import write_model
from tests.server.browser import AXE, NARROW, PROGRAM, WIDE, started, watched
from tests.server.live import TOKEN, Live, serving

pytestmark = [pytest.mark.needs(PROGRAM), pytest.mark.slow]

MODEL = ModelName("llama_1b")
EVIL = ModelName("evil")
HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)><svg/onload=alert(1)>\u202egnp"
    + "w" * 300
)
HOSTILE_CARD = """\
![x](http://evil.example/x.png) [x](javascript:alert(1)) <img src=//evil.example/y>
<iframe src=//evil.example></iframe><script src=//evil.example></script>
"""
CURVE = tuple(
    CurvePoint(n, f"{2 - n / 100:.3f}", f"{2 - n / 90:.3f}" if n % 10 == 0 else "")
    for n in range(50)
)

OF_STORE = ["/", "/storage", "/journal", "/compare", "/sign-in"]
OF_MODEL = ["", "/metrics", "/lineage", "/storage", "/journal"]
OF_VERSION = ["", "/files", "/tensors", "/use"]


def views(model: str, before: str, after: str) -> list[str]:
    """Return every view of a line with two versions."""
    versions = [f"/models/{model}/versions/{after}{end}" for end in OF_VERSION]
    compared = f"/compare?a={model}@{before}&b={model}@{after}"
    return [*OF_STORE, *(f"/models/{model}{end}" for end in OF_MODEL), *versions, compared]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser."""
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A line as people have it, and one whose every text is hostile."""
    root = tmp_path_factory.mktemp("browser")
    store = create(root / "tuned_models")
    for number in range(4):
        tensors = {
            f"model.layers.{layer}.self_attn.{name}_proj.weight": Values(
                "F32", (8,), bytes([60, number, 1, 60] * 8)
            )
            for layer in range(12)
            for name in "qkvo"
        }
        card = (
            "# Card\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n```\n"
            + "x" * 300
            + "\n```\n\n![loss](loss.svg)\n"
        )
        files = {
            "model.safetensors": safetensors_bytes(tensors),
            "README.md": card,
            "loss.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        }
        options = CommitOptions(
            f"step {number}",
            metrics={"eval_loss": 2 - number / 10},
            parameters={"learning_rate": 0.1 * number},
            curve=CURVE,
        )
        commit(store, write_model(root / f"{number}", files=files), MODEL, options)
    set_alias(store, "prod", resolve(store, f"{MODEL}@v1.2"))
    set_active(store, resolve(store, f"{MODEL}@v1.1"))
    for number in range(2):
        tensors = {f"layers.0.{HOSTILE}": Values("F32", (4,), bytes([number] * 16))}
        files = {
            "model.safetensors": safetensors_bytes(tensors),
            "README.md": f"{HOSTILE}\n\n{HOSTILE_CARD}",
            "config.json": json.dumps({"<b>k": f"<script>alert(3)</script>{number}"}),
        }
        options = CommitOptions(
            HOSTILE,
            author=HOSTILE,
            note=HOSTILE,
            description=HOSTILE,
            base_model=HOSTILE,
            metrics={HOSTILE: 1.0 + number},
            parameters={HOSTILE: HOSTILE},
            data=[{"name": HOSTILE}],
            curve=CURVE,
        )
        commit(store, write_model(root / f"evil{number}", files=files), EVIL, options)
    return store


@pytest.fixture(scope="module")
def live(store: Store) -> Iterator[Live]:
    """A server that takes changes."""
    with serving(store, token=TOKEN) as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize(("model", "before"), [(MODEL, "v1.2"), (EVIL, "v1.0")])
def test_every_view_is_at_home_in_every_window(
    browser: Browser, live: Live, width: int, scheme: str, model: str, before: str
) -> None:
    """No error, no dialog, nothing from elsewhere, nothing wider than the window; hostile or not."""
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with watched(browser, live.url, **options) as one:
        after = "v1.3" if model == MODEL else "v1.1"
        for path in views(model, before, after):
            one.open(path)
            one.check(f"{path} at {width} px, {scheme}")


def test_pages_that_ask_before_they_act_fit_a_phone(browser: Browser, live: Live) -> None:
    """The two confirmations, and what axe finds in them, narrow and wide."""
    for width in (WIDE, NARROW):
        options = {"viewport": {"width": width, "height": 800}, "bypass_csp": True}
        with watched(browser, live.url, **options) as one:
            one.open(f"/sign-in?token={TOKEN}")
            for model in (MODEL, EVIL):
                one.open(
                    f"/models/{model}/versions/{'v1.2' if model == MODEL else 'v1.1'}/activate"
                )
                one.check(f"activate at {width} px")
                assert not AXE.is_file() or not one.axe()
            one.open(f"/models/{MODEL}/rollback")
            one.check(f"rollback at {width} px")


def test_axe_finds_nothing_serious(browser: Browser, live: Live) -> None:
    """Names, labels, contrast, structure: no finding that is serious or critical."""
    if not AXE.is_file():
        pytest.skip(f"needs {AXE.name}: npm install --prefix build/axe axe-core")
    for scheme in ("light", "dark"):
        for width in (WIDE, NARROW):
            options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
            with watched(browser, live.url, bypass_csp=True, **options) as one:
                for path in [*views(MODEL, "v1.2", "v1.3"), "/models/none"]:
                    one.open(path, 404 if path.endswith("none") else 200)
                    assert not one.axe(), (path, scheme, width)


def test_active_is_set_and_rolled_back_by_clicking(
    browser: Browser, live: Live, store: Store
) -> None:
    """From the button through the form for the token to the confirmation, and back again."""
    for scripts in (True, False):
        with watched(browser, live.url, java_script_enabled=scripts) as one:
            one.open(f"/models/{MODEL}/versions/v1.3")
            page = one.page
            page.get_by_role("link", name="Make ACTIVE…").click()
            page.get_by_label("Token").fill("wrong, and long enough")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_have_text("That is not the token.")
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_label("Why").fill("by hand")
            page.get_by_role("button", name="Make v1.3 ACTIVE").click()
            expect(page.locator("tr.is-active th")).to_contain_text("v1.3")
            assert store.state(MODEL).active == "v1.3"
            page.get_by_role("link", name="Roll back…").click()
            page.get_by_role("button", name="Roll back to v1.1").click()
            expect(page.locator("tr.is-active th")).to_contain_text("v1.1")
            assert store.state(MODEL).active == "v1.1"
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_role("link", name="Sign in")).to_be_visible()
            assert not one.problems


def test_the_address_that_the_terminal_prints_signs_in(browser: Browser, live: Live) -> None:
    """The token does not stay in the address."""
    with watched(browser, live.url) as one:
        one.open(f"/sign-in?token={TOKEN}")
        assert one.page.url == f"{live.url}/"
        expect(one.page.get_by_role("button", name="Sign out")).to_be_visible()


def test_ticking_leads_to_curves_and_comparisons(browser: Browser, live: Live) -> None:
    """Buttons wait for as many ticks as they need, and curves can be looked into."""
    with watched(browser, live.url) as one:
        one.open(f"/models/{MODEL}")
        page = one.page
        compare = page.get_by_role("button", name="Compare")
        expect(compare).to_be_disabled()
        for version in ("v1.3", "v1.0"):
            page.get_by_label(f"Choose {version}").check()
        expect(compare).to_be_enabled()
        page.get_by_role("button", name="Loss curves").click()
        expect(page.locator(".uplot canvas")).to_be_visible()
        assert page.locator(".u-legend .u-series").count() == 5
        page.get_by_label("Smooth").check()
        page.get_by_label("Logarithmic").check()
        page.go_back()
        page.get_by_role("button", name="Compare").click()
        page.wait_for_url("**/compare?**")
        assert page.locator("figure svg.ms-chart").count() == 1
        one.check("compare")


def test_without_scripts_charts_are_pictures(browser: Browser, live: Live) -> None:
    """Curves, metrics and the heat map are there, and ticking works."""
    with watched(browser, live.url, java_script_enabled=False) as one:
        one.open(f"/models/{MODEL}/metrics?v=v1.1&v=v1.2")
        assert one.page.locator("figure.live svg polyline").count() >= 2
        one.open(f"/compare?a={MODEL}@v1.0&b={MODEL}@v1.1")
        assert one.page.locator("figure svg rect").count() > 40
        one.open(f"/models/{MODEL}")
        for version in ("v1.3", "v1.0"):
            one.page.get_by_label(f"Choose {version}").check()
        one.page.get_by_role("button", name="Compare").click()
        expect(one.page.get_by_role("heading", name="Compare", exact=True)).to_be_visible()


def test_snippets_can_be_copied(browser: Browser, live: Live) -> None:
    """The button puts exactly the lines on the clipboard."""
    permissions = ["clipboard-read", "clipboard-write"]
    with watched(browser, live.url, permissions=permissions) as one:
        one.open(f"/models/{MODEL}/versions/v1.1/use")
        section = one.page.locator(
            "section", has=one.page.get_by_role("heading", name="hf download")
        )
        section.get_by_role("button", name="Copy").click()
        expect(section.get_by_role("button")).to_have_text("Copied")
        copied = one.page.evaluate("navigator.clipboard.readText()")
        assert (
            copied == f"export HF_ENDPOINT={live.url}\nhf download mstore/{MODEL} --revision v1.1"
        )


def test_a_download_is_the_file(browser: Browser, live: Live, tmp_path: Path) -> None:
    """A click on a file of a version gives its bytes."""
    with watched(browser, live.url) as one:
        one.open(f"/models/{MODEL}/versions/v1.1/files")
        with one.page.expect_download() as waiting:
            one.page.get_by_role("link", name="Download config.json").click()
        waiting.value.save_as(tmp_path / "config.json")
        assert (tmp_path / "config.json").read_bytes() == b'{"architectures": ["LlamaForCausalLM"]}'


def test_keyboards_come_first_to_the_skip_link(browser: Browser, live: Live) -> None:
    """The first stop jumps over the navigation, and is seen."""
    with watched(browser, live.url) as one:
        one.open("/")
        one.page.keyboard.press("Tab")
        skip = one.page.get_by_role("link", name="Skip to the content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()


# --- other stores


def both_windows(browser: Browser, store: Store, paths: dict[str, int]) -> None:
    """Look at some pages of a store, wide and narrow; ``paths`` have the status that is expected."""
    with serving(store) as live:
        for width in (WIDE, NARROW):
            with watched(browser, live.url, viewport={"width": width, "height": 800}) as one:
                for path, status in paths.items():
                    one.open(path, status)
                    one.check(f"{path} at {width} px")


def test_an_empty_store_looks_right(browser: Browser, tmp_path: Path) -> None:
    """Every page of a store without models."""
    both_windows(browser, create(tmp_path / "tuned_models"), dict.fromkeys(OF_STORE, 200))


def test_a_huge_line_looks_right(browser: Browser, tmp_path: Path) -> None:
    """Ten thousand versions: the first page, the last, and every chart."""
    store = create(tmp_path / "tuned_models")
    versions = {
        f"v1.{n}": {
            "created_at": "2026-01-01T00:00:00Z",
            "seq": 1 + n,
            "message": f"step {n}",
            "metrics": {"loss": 2 - n / 10_000},
            "sizes": {"logical": 1_000_000_000, "stored": 1000 * n},
        }
        for n in range(10_000)
    }
    change = Change("adopt", versions=versions, active="v1.9999")
    with store.lock():
        store.registry(MODEL).change(lambda _: change, "2026-01-01T00:00:00Z")
    paths = [f"/models/{MODEL}{end}" for end in [*OF_MODEL, "?page=200"]]
    both_windows(browser, store, dict.fromkeys(["/", "/compare", *paths], 200))


def test_a_map_of_400_tensors_looks_right(browser: Browser, tmp_path: Path) -> None:
    """Fifty layers of eight modules, and what a pointer shows over one of them."""
    store = create(tmp_path / "tuned_models")
    names = [f"model.layers.{n}.mlp.{m}_proj.weight" for n in range(50) for m in "abcdefgh"]
    for number in range(2):
        tensors = {
            name: Values("F32", (4,), bytes([60, number * (1 + at % 7), 1, 60] * 4))
            for at, name in enumerate(names)
        }
        files = {"model.safetensors": safetensors_bytes(tensors)}
        commit(store, write_model(tmp_path / f"{number}", files=files), MODEL, CommitOptions("x"))
    path = f"/compare?a={MODEL}@v1.0&b={MODEL}@v1.1"
    both_windows(browser, store, {path: 200})
    with serving(store) as live, watched(browser, live.url) as one:
        one.open(path)
        titles = one.page.locator("figure svg title").all_text_contents()
        assert any("model.layers.49.mlp.h_proj.weight" in title for title in titles)
        one.page.get_by_text("As a table").click()
        expect(one.page.get_by_role("rowheader", name="model.layers.49.mlp.h_proj")).to_be_visible()


def test_a_broken_store_looks_right(browser: Browser, tmp_path: Path) -> None:
    """A damaged registry beside a good one, and a version without its manifest."""
    store = create(tmp_path / "tuned_models")
    for model in (MODEL, EVIL):
        commit(store, write_model(tmp_path / model), model, CommitOptions("x"))
    for path in (
        store.root / MODEL / "model_registry.json",
        *(store.meta / "refs" / MODEL).iterdir(),
    ):
        path.write_bytes(b"{")
    (store.root / MODEL / "journal.jsonl").write_bytes(b"{}")
    entry = store.state(EVIL).entry("v1.0")
    assert entry is not None
    assert entry.id is not None
    store.blobs.path(entry.id).unlink()
    (store.version_dir(EVIL, "v1.0") / "manifest.json").unlink()
    paths = {f"/models/{EVIL}/versions/v1.0{end}": 200 for end in OF_VERSION}
    with serving(store) as live, watched(browser, live.url) as one:
        for path, status in {
            **dict.fromkeys(OF_STORE, 200),
            **paths,
            f"/models/{MODEL}": 500,
        }.items():
            one.open(path, status)
            one.problems = [problem for problem in one.problems if "status of 500" not in problem]
            one.check(path)


def test_a_page_that_waits_fills_itself(
    browser: Browser, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long is there in the end without a click, with scripts and without."""
    monkeypatch.setattr(compare, "_WAIT_SECONDS", 0.0)
    for scripts, pair in (
        (True, "a=llama_1b@v1.3&b=evil@v1.0"),
        (False, "a=llama_1b@v1.3&b=evil@v1.1"),
    ):
        with watched(browser, live.url, java_script_enabled=scripts) as one:
            one.open(f"/compare?{pair}")
            expect(one.page.locator("#tensors table")).to_be_attached(timeout=20_000)
