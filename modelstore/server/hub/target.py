"""What an upload goes on top of, and what moves on to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request

from modelstore.errors import StoreError
from modelstore.manifest import FileEntry
from modelstore.names import ACTIVE, ModelName
from modelstore.ops.publish import Pointer
from modelstore.ops.resolve import Resolved, resolve
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.hub.ids import MAIN, commit_id, find_model
from modelstore.server.hub.tree import is_yes
from modelstore.state import Entry, State

_NEWEST = 32
"""Versions whose files are looked through for one that need not be sent again."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an upload goes on top of.

    Attributes:
        model: its line.
        parent: the version; None while there is none.
        pointer: what moves on to the next version.
        files: of the parent, by path.
    """

    model: ModelName
    parent: Resolved | None
    pointer: Pointer
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        """The id of the parent for clients, "" where there is none."""
        return commit_id(self.parent.entry) if self.parent is not None else ""


def target(context: Context, request: Request) -> Target:
    """Return what an upload to the revision of a request goes on top of.

    Raises:
        Refused: there is no such line or revision, or nothing can be put on top of it.
    """
    if is_yes(request.query_params.get("create_pr")):
        raise Refused(400, "there are no pull requests here; upload without create_pr")
    model = find_model(context, request)
    state = context.store.state(model)
    name = request.path_params["revision"]
    pointer = _pointer(context, model, state, name)
    entry = state.entry(pointer.version) if pointer.version else state.newest_stored()
    if entry is None:
        return Target(model, None, pointer)
    parent = Resolved(model, entry)
    manifest = context.manifest(model, entry)
    return Target(model, parent, pointer, {file.path: file for file in manifest.files})


def _pointer(context: Context, model: ModelName, state: State, name: str) -> Pointer:
    if name == MAIN:
        return Pointer("", state.active)
    if name in state.aliases:
        return Pointer(name, state.aliases[name])
    try:
        found = resolve(context.store, f"{model}@{name}")
    except StoreError as error:
        raise Refused(404, error.message, "RevisionNotFound") from error
    raise Refused(
        400,
        f"{name!r} is {found}, and a version never changes; upload to {MAIN!r}, "
        f"which makes the next version and lets {ACTIVE} move on to it",
    )


def known_files(context: Context, goal: Target, most: int = _NEWEST) -> Iterator[FileEntry]:
    """Yield files of the parent and of the newest versions of its line, those of the nearest first.

    Args:
        most: how many versions are looked into.
    """
    yield from goal.files.values()
    entries = [e for e in reversed(context.store.state(goal.model).entries()) if e.id is not None]
    for entry in entries[:most]:
        yield from _files_of(context, goal.model, entry)


def _files_of(context: Context, model: ModelName, entry: Entry) -> Sequence[FileEntry]:
    try:
        return context.manifest(model, entry).files
    except StoreError:  # a lost manifest only means that the file is sent
        return ()
