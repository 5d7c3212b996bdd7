"""What is in a backup: its registries and small files, and which versions a ref means there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modelstore.canonical import MAX_SEALED
from modelstore.errors import IntegrityError, NotFoundError, UsageError
from modelstore.hashing import digest_of
from modelstore.names import ACTIVE, ModelName, Ref, digest_prefix, is_model, is_version, parse_ref
from modelstore.ops.backup_document import Backup, BackupFile
from modelstore.ops.backup_frames import read_blob
from modelstore.ops.restore_place import ReadFile
from modelstore.registry import VIEW
from modelstore.remotes.base import Remote
from modelstore.state import Entry, State
from modelstore.view import open_view


def state_of(remote: Remote, backup: Backup, model: ModelName) -> State:
    """Return a model's registry as a backup has it.

    Raises:
        IntegrityError: it is not there, or not what the backup says.
    """
    document = open_view(read_file(remote, backup, f"{model}/{VIEW}"), str(model))
    if document is None or document["head"] != backup.models[model].head:
        raise unreadable(backup, f"the registry of {model}")
    return State(document)


def read_file(remote: Remote, backup: Backup, path: str) -> bytes:
    """Return a small file of a backup.

    Raises:
        IntegrityError: it is not there, or not whole.
    """
    file = backup.file(path)
    if file is None:
        raise unreadable(backup, f"'{path}'")
    try:
        return _join(remote, file)
    except NotFoundError as error:
        raise unreadable(backup, f"'{path}'") from error


def _join(remote: Remote, file: BackupFile) -> bytes:
    if file.size > MAX_SEALED:
        raise IntegrityError(f"'{file.path}' claims {file.size} bytes")
    data = b"".join(read_blob(remote, digest, size) for digest, size in file.spans)
    if digest_of(data) != file.blake3:
        raise IntegrityError(f"'{file.path}' of the backup is not what it was")
    return data


def unreadable(backup: Backup, what: str) -> IntegrityError:
    """Return the error that says that ``what`` of a backup is not as it was."""
    return IntegrityError(
        f"{what} of backup {backup.name} cannot be read",
        "choose another backup with --at; run: mstore backup check DEST",
    )


class SmallFiles:
    """The small files of a backup, read when they are wanted."""

    def __init__(self, remote: Remote, backup: Backup) -> None:
        self._remote = remote
        self._backup = backup

    def small(self, below: str) -> dict[str, bytes]:
        """Return the files of the store itself for "", else those below a directory."""
        models = tuple(f"{model}/" for model in self._backup.models)
        wanted = (
            one
            for one in self._backup.files
            if (one.path.startswith(below) if below else not one.path.startswith(models))
        )
        return {one.path: _join(self._remote, one) for one in wanted}

    def of(self, model: ModelName) -> ReadFile:
        """Return what reads the file of a name in a version's directory, or None."""

        def read(version: str, name: str) -> bytes | None:
            file = self._backup.file(f"{model}/{version}/{name}")
            return None if file is None else _join(self._remote, file)

        return read


# --- which versions


def stored_in(state: State) -> list[Entry]:
    """Return the versions of a registry that have content."""
    return [entry for entry in state.entries() if entry.id is not None]


def chosen(states: Mapping[ModelName, State], refs: Sequence[str]) -> dict[ModelName, list[Entry]]:
    """Return the versions that ``refs`` mean, each once, in their order; () means all.

    Raises:
        NotFoundError: there is no such version.
        UsageError: a ref counts steps, which backups do not.
    """
    if not refs:
        return {model: stored_in(state) for model, state in states.items()}
    found: dict[ModelName, dict[str, Entry]] = {}
    for text in refs:
        for model, entries in _meant(states, text):
            found.setdefault(model, {}).update({str(one.version): one for one in entries})
    return {
        model: [one for one in stored_in(states[model]) if str(one.version) in names]
        for model, names in found.items()
    }


def _meant(states: Mapping[ModelName, State], text: str) -> Iterable[tuple[ModelName, list[Entry]]]:
    if is_model(text) and ModelName(text) in states:
        return [(ModelName(text), stored_in(states[ModelName(text)]))]
    ref = parse_ref(text)
    if ref.steps:
        raise UsageError(
            f"{text!r} counts steps, which backups do not", "name the version: MODEL@v1.1"
        )
    models = [ref.model] if ref.model is not None else list(states)
    found = [
        (model, [entry])
        for model in models
        if model in states and (entry := _entry(states[model], ref)) is not None
    ]
    if len(found) == 1:
        return found
    known = ", ".join(states) or "none"
    if not found:
        raise NotFoundError(
            f"the backup has no version {text!r} (its models: {known})",
            "run: mstore backup list DEST",
        )
    raise NotFoundError(
        f"{text!r} may be of {' or '.join(model for model, _ in found)}",
        f"name the model: {found[0][0]}@{ref.base}",
    )


def _entry(state: State, ref: Ref) -> Entry | None:
    stored = stored_in(state)
    base = ref.base
    if base in (ACTIVE, "HEAD"):
        base = state.active
    if base == "latest":
        return state.newest_stored()
    if is_version(base) or base in state.aliases:
        found = state.entry(state.aliases.get(base, base))
        return found if found is not None and found.id is not None else None
    prefix = digest_prefix(base)
    fitting = [one for one in stored if prefix and str(one.id).startswith(prefix)]
    return fitting[0] if len(fitting) == 1 else None
