"""Take the pictures of the page that the README shows.

    python -m scripts.take_screenshots STORE MODEL

STORE has some versions of MODEL that `mstore train` made, so that there are curves to draw. Needs
Debian's Chromium and playwright (`pip install -e '.[dev]'`). The pictures go to docs/images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from modelstore.ops.history import log
from modelstore.store import Store
from tests.server.browser import started, watched
from tests.server.live import serving

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
WIDTH = 1120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("model")
    arguments = parser.parse_args()
    store = Store(arguments.store)
    model = arguments.model
    (history,) = log(store, model)
    versions = [str(entry.version) for entry in reversed(history.entries)]
    before, after = versions[1], versions[-1]
    chosen = "&".join(f"v={version}" for version in versions[1:4])
    views = [
        ("versions", f"/models/{model}", "light", 640),
        ("curves", f"/models/{model}/metrics?{chosen}", "dark", 820),
        ("compare", f"/compare?a={model}@{before}&b={model}@{after}", "light", 1110),
    ]
    IMAGES.mkdir(exist_ok=True)
    with serving(store) as live, started() as browser:
        for name, path, scheme, height in views:
            size = {"width": WIDTH, "height": height}
            with watched(browser, live.url, viewport=size, color_scheme=scheme) as one:
                one.open(path)
                if name == "compare":  # which may take a while; the form above it says nothing new
                    one.page.wait_for_selector("#tensors figure", timeout=120_000)
                    one.page.locator(".sides").evaluate("part => scrollTo(0, part.offsetTop - 16)")
                one.check(path)
                target = IMAGES / f"{name}.png"
                one.page.screenshot(path=str(target))
                print(f"{target.stat().st_size:>9,}  {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
