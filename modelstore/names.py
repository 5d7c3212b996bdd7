"""Names, parsed once at the edge: models, versions, aliases, refs and the paths of files.

A name that passed here can be used in a path on every operating system.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, total_ordering
from typing import NewType

from modelstore.errors import BadNameError

ModelName = NewType("ModelName", str)
"""A line of versions, and the name of its directory."""

ACTIVE = "ACTIVE"
"""The ref that every reader defaults to."""

RESERVED_REFS = frozenset({"active", "head", "latest", "greatest"})
"""Words that refs give a meaning to, in lower case; no alias may be one, however it is spelt."""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}\Z")
_NUMBER = r"(0|[1-9][0-9]{0,8})"
_WORD = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"v?{_NUMBER}\.{_NUMBER}(?:\.{_NUMBER})?(?:-(?=.{{1,32}}\Z)({_WORD}(?:\.{_WORD})*))?\Z"
)
"""semver 2.0.0, clauses 2 and 9, without build metadata: no leading zeros, no empty words."""

_LIKE_VERSION = re.compile(r"v?[0-9]+\.[0-9]")
_HEX = re.compile(r"(?:b3:)?([0-9a-f]{6,64})\Z")
_STEP = re.compile(r"~(\d{0,9})|\^(\d{0,9})|@\{(\d{1,9})\}", re.ASCII)
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\.|\Z)")

_OBEYED = {
    **dict.fromkeys((".git", "git~1"), "git would obey what is in it"),
    **dict.fromkeys((".mstore", "mstore~1"), "'.mstore' is the store's own"),
}
"""Directories that make programs obey what is in them, with their short names on Windows."""

_MAX_SEGMENT = 255
_MAX_PATH = 1024
_MAX_DEPTH = 32


def parse_model(text: str) -> ModelName:
    """Return ``text`` as the name of a model.

    Raises:
        BadNameError: it is not 1 to 64 letters, digits, dots, dashes and underscores, or it could
            be read as a version or as a word that refs give a meaning to.
    """
    if not is_model(text):
        raise BadNameError(f"{text!r} cannot be the name of a model", _model_hint(text))
    return ModelName(text)


def _model_hint(text: str) -> str:
    if text.lower() in RESERVED_REFS or _LIKE_VERSION.match(text):
        return "it means a version; name the model as in: llama_1b"
    if _DEVICES.match(text):
        return "it is a device on Windows; name the model as in: llama_1b"
    return "use up to 64 letters, digits, '.', '-' and '_', for example: llama_1b"


def is_model(text: str) -> bool:
    """Tell whether ``text`` could be the name of a model."""
    if not _MODEL.match(text) or _DEVICES.match(text) or text.endswith("."):
        return False
    return text.lower() not in RESERVED_REFS and not _LIKE_VERSION.match(text)


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A version's number, as in ``v1.1``, ``v1.1.2`` or ``v2.0-rc.1``; ordered as semver orders.

    Attributes:
        major, minor, patch: a patch that is not written is 0, so v1.1 and v1.1.0 are equal.
        pre: what follows the dash, or "".
        text: as it was written, always with the v.
    """

    major: int
    minor: int
    patch: int
    pre: str
    text: str

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.order() == other.order()

    def __hash__(self) -> int:
        return hash((self.major, self.minor, self.patch, self.pre))

    def __lt__(self, other: Version) -> bool:
        return self.order() < other.order()

    def order(self) -> tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]:
        """Return what orders versions; as the key of a sort it is asked once for each."""
        if not self.pre:
            return self.major, self.minor, self.patch, True, ()
        # semver 2.0.0, clause 11: a pre-release is older; numbers sort below words
        words = tuple(
            (not word.isdigit(), int(word) if word.isdigit() else 0, word)
            for word in self.pre.split(".")
        )
        return self.major, self.minor, self.patch, False, words


@lru_cache(maxsize=1 << 16)  # one command sorts the same versions several times
def parse_version(text: str) -> Version:
    """Return ``text`` ("v1.1"; the v may be left out) as a version.

    Raises:
        BadNameError: it is not one.
    """
    match = _VERSION.match(text)
    if match is None:
        raise BadNameError(f"{text!r} is not a version", "versions look like v1.0 or v1.2.3")
    major, minor, patch, pre = match.groups()
    return Version(
        int(major), int(minor), int(patch or 0), pre or "", text if text[0] == "v" else f"v{text}"
    )


def is_version(text: str) -> bool:
    """Tell whether ``text`` could be a version."""
    return _VERSION.match(text) is not None


def next_version(taken: Iterable[Version], *, after: Version | None, major: bool) -> Version:
    """Return the number that a new version gets.

    Args:
        taken: every number in use, or once used, in the line.
        after: the parent's number; None for a version without parent in this line.
        major: start the next major line instead of the next minor of the parent's.
    """
    numbers = [(version.major, version.minor) for version in taken]
    if not numbers:
        return parse_version("v1.0")
    if major:
        return parse_version(f"v{max(numbers)[0] + 1}.0")
    line = after.major if after is not None else max(numbers)[0]
    minor = max((m for n, m in numbers if n == line), default=-1) + 1
    return parse_version(f"v{line}.{minor}")


def parse_alias(text: str) -> str:
    """Return ``text`` as an alias.

    Raises:
        BadNameError: it is reserved, or could be read as a version or a digest.
    """
    if not _ALIAS.match(text) or text.lower() in RESERVED_REFS or _LIKE_VERSION.match(text):
        raise BadNameError(
            f"{text!r} cannot be an alias",
            "use a word such as prod, that is no version and none of ACTIVE, HEAD, latest, greatest",
        )
    if _HEX.match(text):
        raise BadNameError(f"{text!r} cannot be an alias", "it could be read as a digest")
    return text


@dataclass(frozen=True, slots=True)
class Ref:
    """Anything that resolves to a version, as typed.

    Attributes:
        model: the part before ``@``, or None.
        base: "ACTIVE", a version, an alias, a digest prefix, ...
        steps: what follows it, in order: ("~", n) first parents, ("^", n) the n-th parent,
            ("@", n) what a pointer was n moves ago.
    """

    model: ModelName | None
    base: str
    steps: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        steps = "".join(f"@{{{n}}}" if kind == "@" else f"{kind}{n}" for kind, n in self.steps)
        return f"{self.model}@{self.base}{steps}" if self.model else f"{self.base}{steps}"


def parse_ref(text: str) -> Ref:
    """Return ``text`` (``[model@]base[~N|^N|@{N}]...``) as a ref.

    ``-`` is short for ``ACTIVE@{1}``, and nothing before a step or after ``model@`` is ACTIVE.

    Raises:
        BadNameError: ``text`` does not follow that grammar.
    """
    head, rest = _split_model(text)
    model = parse_model(head) if head is not None else None
    if rest == "-":
        return Ref(model, ACTIVE, (("@", 1),))
    match = re.search(r"[~^]|@\{", rest)
    cut = match.start() if match else len(rest)
    base, tail = rest[:cut], rest[cut:]
    steps = []
    while tail:
        step = _STEP.match(tail)
        if step is None:
            raise BadNameError(f"{text!r} is not a ref", "refs look like v1.1, prod or ACTIVE~1")
        steps.append(_step(step))
        tail = tail[step.end() :]
    if base and (
        any(c.isspace() or not c.isprintable() for c in base) or set(base) & set("@/\\*?")
    ):
        raise BadNameError(f"{text!r} is not a ref", "refs look like v1.1, prod or llama_1b@v1.1")
    if not text:
        raise BadNameError("an empty string is not a ref", "refs look like v1.1, prod or ACTIVE~1")
    return Ref(model, base or ACTIVE, tuple(steps))


def _split_model(text: str) -> tuple[str | None, str]:
    match = re.search(r"@(?!\{)", text)
    if match is None:
        return None, text
    return text[: match.start()], text[match.end() :]


def _step(match: re.Match[str]) -> tuple[str, int]:
    parents, nth, moves = match.groups()
    if parents is not None:
        return "~", int(parents or 1)
    if nth is not None:
        return "^", int(nth or 1)
    return "@", int(moves)


def digest_prefix(text: str) -> str | None:
    """Return the hex digits if ``text`` can be (the beginning of) a digest, else None."""
    match = _HEX.match(text)
    return match.group(1) if match else None


def parse_path(text: str) -> str:
    """Return ``text`` as the path of a file within a version: relative, with forward slashes.

    Refused is what could leave the directory, or could not be written, on any system: absolute
    paths, drives, UNC, ``..``, backslashes, device names, streams, control characters, segments
    that end in a dot or a space, the directories of git and of mstore at any depth, over 255 bytes
    a segment, over 32 segments, over 1024 bytes.

    Raises:
        BadNameError: ``text`` breaks one of these rules.
    """
    problem = _path_problem(text)
    if problem:
        raise BadNameError(f"{text!r} cannot be a file of a version: {problem}", "rename the file")
    return text


def _path_problem(text: str) -> str:
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not UTF-8"
    segments = text.split("/")
    if not text or size > _MAX_PATH or len(segments) > _MAX_DEPTH:
        return "it is empty, too long or too deep"
    for segment in segments:
        problem = _segment_problem(segment)
        if problem:
            return problem
    return ""


def _segment_problem(segment: str) -> str:
    if segment in {"", ".", ".."}:
        return f"the segment {segment!r} is not a name"
    if len(segment.encode("utf-8")) > _MAX_SEGMENT:
        return "a segment is longer than 255 bytes"
    if any(c in '\\:*?"<>|' for c in segment):
        return 'it has one of the characters \\ : * ? " < > |'
    if any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in segment):
        return "it has a control character"
    if segment[-1] in ". ":
        return "a segment ends in a dot or a space"
    if _DEVICES.match(segment):
        return f"{segment!r} is a device on Windows"
    return _OBEYED.get(segment.casefold(), "")


def path_key(path: str) -> str:
    """Return what two paths share when some file system cannot tell them apart."""
    if path.isascii():
        return path.lower()
    # canonical caseless matching, D145 of the Unicode Standard, section 3.13
    folded = unicodedata.normalize("NFD", path).casefold()
    return unicodedata.normalize("NFD", folded)


def collision(paths: Iterable[str]) -> tuple[str, str] | None:
    """Return two of ``paths`` that cannot lie side by side on some file system, or None.

    That are two that differ by case or Unicode form only, be it in a directory's name (``A/x`` and
    ``a/y``), and a file that another path needs as a directory.
    """
    files: dict[str, str] = {}
    directories: dict[str, tuple[str, str]] = {}  # by key: how it is spelt, and in which path
    for path in paths:
        for cut in (at for at, c in enumerate(path) if c == "/"):
            found = directories.setdefault(path_key(path[:cut]), (path[:cut], path))
            if found[0] != path[:cut]:
                return found[1], path
        other = files.setdefault(path_key(path), path)
        if other != path:
            return other, path
    return next(((files[key], directories[key][1]) for key in files if key in directories), None)


_HIDDEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
"""Unicode's categories of what is a command, is invisible or has no picture that all agree on."""


def printable(text: str) -> str:
    """Return ``text`` without anything that moves a terminal's cursor or hides text."""
    if text.isprintable():  # nearly always, and a table of 10,000 rows asks 80,000 times
        return text
    return "".join(
        c if unicodedata.category(c) not in _HIDDEN else f"\\u{ord(c):04x}" for c in text
    )
