"""Addresses of remotes: what a user types, parsed once.

| address | what it is |
|---|---|
| `/path`, `./path`, `file:///path` | a directory |
| `s3://bucket/prefix?endpoint=URL&region=R&profile=P` | Amazon S3, or a server that speaks like it |
| `gs://bucket/prefix` | Google Cloud Storage |
| `az://container/prefix?account=A&endpoint=URL` | Azure Blob Storage |
| `http://…`, `https://…` | a store that `mstore serve` serves, or a web server to read from |

An address holds no credentials: it is written down in the store and shown in messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from modelstore.errors import UsageError

OPTIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "file": frozenset(),
        "s3": frozenset({"endpoint", "region", "profile", "addressing"}),
        "gs": frozenset(),
        "az": frozenset({"endpoint", "account"}),
        "http": frozenset(),
        "https": frozenset(),
    }
)
"""What may follow the question mark, for each kind of remote."""

_CREDENTIALS = {
    "file": "a directory has none",
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to ~/.aws/credentials",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the file that holds them",
    "az": "set AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_KEY",
    "http": "set MSTORE_TOKEN",
    "https": "set MSTORE_TOKEN",
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?=//|[^\\/])")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]*\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a remote is.

    Attributes:
        scheme: one of `OPTIONS`.
        place: the bucket or container; of a web server its host and port; "" for a directory.
        path: the prefix without slashes at its ends; for a directory its path.
        options: what followed the question mark.
    """

    scheme: str
    place: str
    path: str
    options: Mapping[str, str]

    @property
    def shown(self) -> str:
        """The address for messages, without options."""
        if self.scheme == "file":
            return self.path
        return f"{self.scheme}://{self.place}" + (f"/{self.path}" if self.path else "")


def parse_address(text: str) -> Address:
    """Return ``text`` as an address.

    Raises:
        UsageError: it is none, of a kind that there is not, or has credentials in it. What the
            message quotes has none.
    """
    if not text.isprintable():  # the library would drop newlines silently
        raise UsageError("the address of a remote has control characters in it")
    match = _SCHEME.match(text)
    if match is None:
        return _directory(text)
    scheme = match.group(1).lower()
    if scheme not in OPTIONS:
        raise _unknown(scheme, text)
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"the address that begins '{scheme}://' cannot be read: {error}") from None
    _refuse_credentials(scheme, parts)
    options = _options(scheme, parts)
    if scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise UsageError("the address 'file://…' names a host", "write file:///path, or /path")
        return _directory(unquote(parts.path))
    if scheme in {"http", "https"}:
        return Address(scheme, _host(parts), parts.path.strip("/"), options)
    return Address(scheme, _bucket(scheme, parts), _prefix(scheme, parts), options)


def _directory(path: str) -> Address:
    if not path.strip() or not path.isprintable():
        raise UsageError(
            "the address of a remote is empty", "give a directory, or s3://BUCKET/PREFIX"
        )
    return Address("file", "", str(Path(path).expanduser()), MappingProxyType({}))


def _unknown(scheme: str, text: str) -> UsageError:
    if scheme in {"ssh", "sftp", "scp"} or "@" in text.partition(":")[0]:
        return UsageError(
            f"mstore does not speak {scheme}",
            "mount the directory and give its path: sshfs USER@HOST:DIR /mnt/DIR",
        )
    return UsageError(
        f"'{scheme}://' is no kind of remote that mstore knows",
        "use a directory, s3://, gs://, az://, or the http:// of mstore serve",
    )


def _refuse_credentials(scheme: str, parts: SplitResult) -> None:
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    inside = "@" in parts.netloc or "@" in query.get("endpoint", "")
    secret = [name for name in query if _looks_secret(name)]
    if inside or secret:
        raise UsageError(
            f"the address '{scheme}://…' has credentials in it, which would be written down",
            f"leave them out; {_CREDENTIALS[scheme]}",
        )


def _looks_secret(name: str) -> bool:
    name = name.lower()
    words = ("key", "secret", "token", "sig", "password", "credential", "auth")
    return name == "se" or any(word in name for word in words)


def _options(scheme: str, parts: SplitResult) -> Mapping[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    unknown = [name for name, _ in pairs if name not in OPTIONS[scheme]]
    if unknown or parts.fragment or len(dict(pairs)) < len(pairs):
        known = ", ".join(sorted(OPTIONS[scheme])) or "none"
        raise UsageError(
            f"the address '{scheme}://…' has options that are not known, or one twice",
            f"options of {scheme}:// are: {known}",
        )
    options = dict(pairs)
    if "endpoint" in options and urlsplit(options["endpoint"]).scheme not in {"http", "https"}:
        raise UsageError("an endpoint is a URL", f"write {scheme}://…?endpoint=https://HOST:PORT")
    return MappingProxyType(options)


def _host(parts: SplitResult) -> str:
    if not parts.hostname:
        raise UsageError(f"the address '{parts.scheme}://…' names no host")
    return parts.netloc


def _bucket(scheme: str, parts: SplitResult) -> str:
    if not _BUCKET.match(parts.netloc):
        raise UsageError(
            f"{parts.netloc[:100]!r} cannot be the name of a bucket",
            f"write {scheme}://BUCKET/PREFIX",
        )
    return parts.netloc


def _prefix(scheme: str, parts: SplitResult) -> str:
    path = unquote(parts.path).strip("/")
    if path and not all(_SEGMENT.match(segment) for segment in path.split("/")):
        raise UsageError(
            f"{path[:100]!r} cannot be a prefix within a bucket",
            f"use letters, digits, '.', '-' and '_': {scheme}://BUCKET/PREFIX",
        )
    return path
