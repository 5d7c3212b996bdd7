"""Which line, and which version of it, a request is about."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from modelstore.errors import BadNameError, NotFoundError
from modelstore.manifest import FileEntry, Manifest
from modelstore.names import ACTIVE, ModelName, is_model
from modelstore.ops.hub_names import MAIN, OWNER, commit_id, shorten
from modelstore.ops.resolve import Resolved, resolve
from modelstore.server.context import Context
from modelstore.server.errors import Refused

__all__ = [
    "MAIN",
    "NO_COMMIT",
    "OWNER",
    "Found",
    "commit_id",
    "find",
    "find_model",
    "is_empty",
    "repo_of",
    "shorten",
]

NO_COMMIT = "0" * 40
"""The id of the commit that a repository has before its first."""


@dataclass(frozen=True, slots=True)
class Found:
    """A version that a request is about.

    Attributes:
        repo: the id of the repository, as it was asked for.
        resolved: the version.
        manifest: its content.
    """

    repo: str
    resolved: Resolved
    manifest: Manifest

    @property
    def commit(self) -> str:
        """The id of the version for clients."""
        return commit_id(self.resolved.entry)

    def file(self, path: str) -> FileEntry:
        """Return a file of the version.

        Raises:
            Refused: there is none.
        """
        found = self.manifest.file(path)
        if found is None:
            raise Refused(
                404,
                f"{self.resolved} has no file {path!r}",
                "EntryNotFound",
                {"X-Repo-Commit": self.commit},
            )
        return found


def repo_of(request: Request) -> str:
    """Return the id of the repository, as it was asked for."""
    owner, model = request.path_params.get("owner"), request.path_params["model"]
    return f"{owner}/{model}" if owner else model


def find_model(context: Context, request: Request) -> ModelName:
    """Return the line that a request is about.

    Raises:
        Refused: there is none of that name.
    """
    owner, model = request.path_params.get("owner", OWNER), request.path_params["model"]
    name = ModelName(model)
    if owner != OWNER or not is_model(model) or not context.store.registry(name).exists():
        known = ", ".join(context.store.models()) or "none"
        message = f"there is no model {repo_of(request)!r} (there is: {known})"
        raise Refused(404, message, "RepoNotFound")
    return name


def is_empty(context: Context, model: ModelName) -> bool:
    """Tell whether a line has no version yet."""
    return not context.store.state(model).document["versions"]


def find(context: Context, request: Request) -> Found:
    """Return the version that a request is about; ACTIVE where it names none.

    Raises:
        Refused: there is no such line or version, or its content is not here.
    """
    model = find_model(context, request)
    revision = request.path_params.get("revision", MAIN)
    if revision == MAIN and is_empty(context, model):
        # a repository without a commit has no files; that it is there must stay clear
        code = "EntryNotFound" if "path" in request.path_params else "RevisionNotFound"
        raise Refused(404, f"{model} has no versions yet", code, {"X-Repo-Commit": NO_COMMIT})
    try:
        resolved = resolve(context.store, f"{model}@{ACTIVE if revision == MAIN else revision}")
        manifest = context.manifest(model, resolved.entry)
    except (BadNameError, NotFoundError) as error:
        raise Refused(404, error.message, "RevisionNotFound") from error
    return Found(repo_of(request), resolved, manifest)
