"""Model cards as HTML: no tag of theirs, nothing from elsewhere, no address but ordinary ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_FRONT = re.compile(r"\A---\s*\n.*?\n---\s*(?:\n|\Z)", re.DOTALL)
"""The block that hubs read, before the text."""

_ALIGNED = re.compile(r"text-align:\s*(left|right|center)\Z")
_HIDING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\u061c\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What reorders text or has no picture; joiners stay, emoji are made with them."""

_SCROLLED = {"table_open", "code_block"}
"""What may be wider than the page, and must be reached by keyboard to be scrolled."""

MOST = 128 << 10
"""Bytes of a card that are shown."""

Resolve = Callable[[str], str]
"""From a path in a version to an address, "" where there is none."""


def as_html(text: str, link: Resolve, image: Resolve) -> Markup:
    """Return a card as HTML.

    Args:
        text: Markdown.
        link: gives the address of a file of the version.
        image: gives the address of a picture of the version.
    """
    text = _FRONT.sub("", text[:MOST].replace("\r\n", "\n"), count=1)
    text = _HIDING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    tokens = _parser().parse(text)
    _mend(tokens, link, image)
    html: str = _parser().renderer.render(tokens, _parser().options, {})
    return Markup(html)  # noqa: S704  (of our renderer, which escapes what it is given)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(
        ["table", "strikethrough"]
    )
    parser.add_render_rule("image", _image)
    parser.add_render_rule("fence", _fence)
    return parser


def _mend(tokens: Sequence[Token], link: Resolve, image: Resolve) -> None:
    for token in tokens:
        style = _ALIGNED.match(str(token.attrs.pop("style", "")))
        if style is not None:
            token.attrs["class"] = f"to-{style[1]}"
        if token.type in {"heading_open", "heading_close"}:  # the page has its own first heading
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        if token.type in _SCROLLED:
            token.attrs["tabindex"] = "0"
        if token.type == "link_open":
            _mend_link(token, link)
        if token.type == "image":
            source = str(token.attrs.get("src", ""))
            token.attrs["src"] = image(source) if _is_relative(source) else ""
            token.attrs["title"] = source
        _mend(token.children or (), link, image)


def _mend_link(token: Token, link: Resolve) -> None:
    address = str(token.attrs.pop("href", ""))
    if address.startswith("#"):
        return
    if _is_relative(address):
        address = link(address)
    elif not _is_ordinary(address):
        address = ""
    if address:
        token.attrs["href"] = address
        token.attrs["rel"] = "noopener noreferrer nofollow"


def _is_relative(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return not parts.scheme and not parts.netloc and bool(parts.path) and parts.path[0] not in "/\\"


def _is_ordinary(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)


def _fence(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    return Markup('<pre tabindex="0"><code>{}</code></pre>\n').format(tokens[at].content)


def _image(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    token = tokens[at]
    alt = Markup("{}").format(self.renderInlineAsText(token.children or [], options, env))
    source = str(token.attrs.get("src", ""))
    if source:
        return Markup('<img src="{}" alt="{}" loading="lazy">').format(Markup(source), alt)  # noqa: S704
    shown = str(token.attrs.get("title", ""))
    return Markup('<span class="no-image" title="{}">[image{}]</span>').format(
        shown, f": {alt}" if alt else ""
    )
