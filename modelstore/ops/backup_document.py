"""The document of a backup: what the store was at one moment, and where at the remote all of it lies.

It is written last, so whatever it names is there, except what it says is missing. The format is
in docs/format.md, section "Backups".
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from modelstore import moments
from modelstore.canonical import canonical, parse_mapping
from modelstore.errors import IntegrityError, NewerFormatError, NotFoundError, UsageError
from modelstore.hashing import Digest, digest_of, parse_digest
from modelstore.names import (
    ModelName,
    is_model,
    is_version,
    parse_model,
    parse_version,
    printable,
)
from modelstore.ops.card import MODEL_INFO, README
from modelstore.registry import JOURNAL, VIEW
from modelstore.remotes.base import Remote
from modelstore.store import META

SCHEMA = "mstore/backup/1"
PREFIX = "backups"
CONFIG = f"{META}/config.json"

_NAME = re.compile(r"([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{8}\Z")
_ADOPTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.json\Z")


@dataclass(frozen=True, slots=True)
class BackupFile:
    """A small file of the store.

    Attributes:
        path: below the store, forward slashes.
        size: in bytes.
        blake3: of the whole file.
        spans: the blobs that it consists of, and their sizes in bytes.
    """

    path: str
    size: int
    blake3: Digest
    spans: tuple[tuple[Digest, int], ...]


@dataclass(frozen=True, slots=True)
class BackupModel:
    """A model as it was: how many changes it had, the last one's digest, its versions' ids."""

    seq: int
    head: Digest
    versions: Mapping[str, Digest]


@dataclass(frozen=True, slots=True)
class Missing:
    """A blob that could not be backed up.

    Attributes:
        blob: its name.
        what: what is wrong with it in the store, one sentence.
        versions: those that cannot be restored because of it, as full refs.
    """

    blob: Digest
    what: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup.

    Attributes:
        name: when it began, and something that tells it from others of that second.
        created_at: RFC 3339, UTC, whole seconds.
        host, mstore: where it was made, and by which release.
        models: by name.
        files: the small files of the store.
        missing: what the store had lost, so that it is not here.
        sizes: "logical" bytes of all versions, "stored" bytes of their frames in the store, "sent"
            bytes and "frames" of this backup.
    """

    name: str
    created_at: str
    host: str
    mstore: str
    models: Mapping[ModelName, BackupModel]
    files: tuple[BackupFile, ...]
    missing: tuple[Missing, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all that the store had is here."""
        return not self.missing

    @property
    def moment(self) -> datetime:
        """When it began."""
        return moment_of(self.name)

    def manifests(self) -> Iterator[tuple[str, Digest]]:
        """Yield the full ref and the id of every version that has content."""
        for model, one in self.models.items():
            yield from ((f"{model}@{version}", digest) for version, digest in one.versions.items())

    def file(self, path: str) -> BackupFile | None:
        """Return the small file at ``path``; None where there is none."""
        return next((one for one in self.files if one.path == path), None)

    def small_blobs(self) -> dict[Digest, int]:
        """Return the blobs of the small files, and their sizes in bytes."""
        return {digest: size for one in self.files for digest, size in one.spans}


def new_name(moment: datetime) -> str:
    """Return the name of a backup that begins at ``moment``: later ones sort behind it."""
    fraction = (moment.microsecond << 16) // 1_000_000
    return f"{moments.stamp(moment)}-{fraction:04x}{os.urandom(2).hex()}"


def moment_of(name: str) -> datetime:
    """Return when the backup ``name`` began.

    Raises:
        UsageError: it is not the name of a backup.
    """
    match = _NAME.match(name)
    if match is None:
        raise UsageError(f"{name!r} is not the name of a backup", "run: mstore backup list DEST")
    try:
        return moments.parse_stamp(match.group(1))
    except ValueError as error:
        raise UsageError(f"{name!r} names no moment", "run: mstore backup list DEST") from error


def key_of(name: str) -> str:
    """Return the key of the backup ``name`` at a remote."""
    return f"{PREFIX}/{name}.json"


# --- at a remote


def names_at(remote: Remote) -> list[str]:
    """Return the names of the backups at a remote, oldest first; one listing.

    Raises:
        IntegrityError: something else lies among them, so that nobody can tell.
    """
    names = []
    for found in remote.list(PREFIX):
        name = found.key.removeprefix(f"{PREFIX}/").removesuffix(".json")
        if key_of(name) != found.key or not _NAME.match(name):
            raise IntegrityError(f"'{found.key}' at '{remote.shown}' is no backup of mstore")
        names.append(name)
    return sorted(names)


def read_backup(remote: Remote, name: str) -> Backup:
    """Return a backup.

    Raises:
        NotFoundError: there is none of that name.
        IntegrityError: its document is not one.
        NewerFormatError: it was written by a newer mstore.
    """
    return decode(remote.get(key_of(name)), name)


def read_all(remote: Remote) -> list[Backup]:
    """Return all backups at a remote, oldest first; the errors are those of `read_backup`."""
    return [read_backup(remote, name) for name in names_at(remote)]


def find(remote: Remote, at: str = "") -> Backup:
    """Return the backup that ``at`` means: the newest for "", else one by its name, or by a time.

    Args:
        at: a name or the beginning of one, or an RFC 3339 date or time, for the newest backup that
            began by then; a date means its end, and a time without zone is UTC.

    Raises:
        NotFoundError: there is none.
        UsageError: ``at`` is neither.
    """
    if _NAME.match(at):  # a web server tells what a name holds, and not which names there are
        with suppress(NotFoundError):
            return read_backup(remote, at)
    names = names_at(remote)
    place = shlex.quote(remote.shown)
    if not names:
        raise NotFoundError(
            f"there is no backup at '{remote.shown}'", f"make one: mstore backup {place}"
        )
    if not at:
        return read_backup(remote, names[-1])
    begins = [name for name in names if name.startswith(at)]
    if re.match(r"[0-9]{8}T", at):
        if len(begins) != 1:
            many = "no backup" if not begins else f"{len(begins)} backups"
            raise NotFoundError(
                f"'{remote.shown}' has {many} whose name begins with {at!r}",
                f"run: mstore backup list {place}",
            )
        return read_backup(remote, begins[0])
    end = _end_of(at)
    before = [name for name in names if moment_of(name) <= end]
    if not before:
        raise NotFoundError(
            f"'{remote.shown}' has no backup so early; the first is {names[0]}",
            f"run: mstore backup list {place}",
        )
    return read_backup(remote, before[-1])


def _end_of(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise UsageError(
            f"{text!r} is neither the name of a backup nor a time",
            "write 2026-01-31, 2026-01-31T18:00Z, or a name of: mstore backup list DEST",
        ) from error
    if re.fullmatch(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}", text):
        moment = moment.replace(hour=23, minute=59, second=59)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


# --- text


def encode(backup: Backup) -> bytes:
    """Return the canonical JSON of ``backup``, with a checksum of itself."""
    return sealed(
        {
            "schema": SCHEMA,
            "name": backup.name,
            "created_at": backup.created_at,
            "host": backup.host,
            "mstore": backup.mstore,
            "models": {
                model: {"seq": one.seq, "head": one.head, "versions": dict(one.versions)}
                for model, one in backup.models.items()
            },
            "files": [
                {
                    "path": one.path,
                    "size": one.size,
                    "blake3": one.blake3,
                    "spans": [{"blob": digest, "size": size} for digest, size in one.spans],
                }
                for one in backup.files
            ],
            "missing": [
                {"blob": one.blob, "what": one.what, "versions": list(one.versions)}
                for one in backup.missing
            ],
            "sizes": dict(backup.sizes),
        }
    )


def sealed(value: Mapping[str, Any]) -> bytes:
    """Return the canonical JSON of ``value`` with a "checksum", the BLAKE3 of it without one."""
    return canonical({**value, "checksum": digest_of(canonical(value))})


def decode(data: bytes, name: str) -> Backup:
    """Return the backup that ``data`` spells.

    Args:
        name: the one that it goes by.

    Raises:
        IntegrityError: it breaks a rule of docs/format.md.
        NewerFormatError: its schema is not one that this mstore knows.
    """
    what = f"backup {name}"
    value = parse_mapping(data, what)
    schema = value.get("schema")
    if schema != SCHEMA:
        if isinstance(schema, str) and schema.startswith("mstore/backup/"):
            raise NewerFormatError(f"{what} has schema {schema!r}", "pip install -U mstore")
        raise IntegrityError(f"{what} is not a backup of mstore")
    if sealed({key: value[key] for key in value.keys() - {"checksum"}}) != data:
        raise IntegrityError(f"{what} is damaged", "run: mstore backup check DEST")
    try:
        found = _backup(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = printable(str(error))[:200]
        raise IntegrityError(
            f"{what} is malformed: {reason}", "run: mstore backup check DEST"
        ) from error
    if found.name != name:
        raise IntegrityError(f"{what} says that it is {printable(found.name)[:100]!r}")
    return found


def _backup(value: Mapping[str, Any]) -> Backup:
    return Backup(
        name=_text(value["name"]),
        created_at=_text(value["created_at"]),
        host=_text(value["host"]),
        mstore=_text(value["mstore"]),
        models={parse_model(name): _model(one) for name, one in value["models"].items()},
        files=tuple(map(_file, value["files"])),
        missing=tuple(
            Missing(
                parse_digest(one["blob"]), _text(one["what"]), tuple(map(_text, one["versions"]))
            )
            for one in value["missing"]
        ),
        sizes={_text(key): _count(size) for key, size in value["sizes"].items()},
    )


def _model(value: Mapping[str, Any]) -> BackupModel:
    versions = {
        str(parse_version(text)): parse_digest(digest) for text, digest in value["versions"].items()
    }
    return BackupModel(_count(value["seq"]), parse_digest(value["head"]), versions)


def _file(value: Mapping[str, Any]) -> BackupFile:
    path = _text(value["path"])
    if not is_known(path):
        raise ValueError(f"{path!r} is no small file of a store")
    spans = tuple((parse_digest(one["blob"]), _count(one["size"])) for one in value["spans"])
    if sum(size for _, size in spans) != _count(value["size"]):
        raise ValueError(f"the spans of {path!r} do not add up to its size")
    return BackupFile(path, value["size"], parse_digest(value["blake3"]), spans)


def is_known(path: str) -> bool:
    """Tell whether ``path`` is that of a small file that backups hold; nothing else is ever written."""
    if path in {README, ".gitignore", CONFIG}:
        return True
    parts = path.split("/")
    if parts[:2] == [META, "adopted"]:
        return len(parts) == 3 and bool(_ADOPTED.match(parts[2]))
    if not is_model(parts[0]):
        return False
    if len(parts) == 2:
        return parts[1] in {VIEW, JOURNAL}
    return len(parts) == 3 and is_version(parts[1]) and parts[2] in {README, MODEL_INFO}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is not a number of bytes or changes")
    return value
