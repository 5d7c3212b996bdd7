"""Remotes that are object stores: Amazon S3 and what speaks like it, Google Cloud, Azure; by obstore.

What was met with real servers, and is taken care of here:

- Several servers ignore preconditions and overwrite; `modelstore.remotes.probe` finds them out.
- Ceph compares the tag of `If-Match` only if it has no quotation marks, others do not mind.
- A conditional write whose reply is lost is answered 412 when it is made again, although it was
  done. So after a refusal we look whether what is there is ours.
- S3 may also refuse with 409 because another conditional write is under way. If the value is still
  the one that we expect, that was no conflict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from modelstore.errors import ConflictError, NotFoundError, RemoteError
from modelstore.remotes.base import (
    GET_LIMIT,
    WHOLE_LIMIT,
    Found,
    Tag,
    check_range,
    check_swap,
    is_key,
    parse_key,
    parse_prefix,
)
from modelstore.remotes.content import PIECE, Content, Source, content_of, held
from modelstore.remotes.retry import TRIES, PassingError, resumed, retried

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta, PutMode, PutResult
    from obstore.store import ObjectStore

    Store = Any  # obstore's methods are on mixins that its ObjectStore type does not show

Result = TypeVar("Result")

_PART = 8 << 20
_MAX_PARTS = 9_000
"""S3 takes 10,000 parts at most."""

_PARTS_AT_ONCE = 4
"""Of each value; so sending one holds up to 40 MiB."""

_PAGE = 1000
_PERMANENT = re.compile(
    r"status code: 4(?!08|29)\d\d|\(4(?!08|29)\d\d |NotPartial|range (?:started|starting) at"
)
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")
_MARKUP = re.compile(r"\s*<\?xml.*?(?:<Code>(?P<code>\w*)</Code>.*)?\Z", re.DOTALL)
_PROLOGUE = re.compile(r"^.*?Error performing .*? - ")


class Tagging(Enum):
    """How a server wants to be told which value is expected."""

    BARE = "its ETag without quotation marks"
    QUOTED = "its ETag with them"
    VERSION = "its generation"


class CloudRemote:
    """A bucket, or a part of one, as a `Remote`.

    Args:
        store: tries every request once; repeating them is done here, where it is known which may be.
        patient: the same place, but repeats the parts of large values by itself.
        shown: the address for messages.
        tagging: how the server compares tags.
        tries: how often a request is made at most.
    """

    writable = True

    def __init__(
        self,
        store: ObjectStore,
        patient: ObjectStore,
        shown: str,
        tagging: Tagging,
        tries: int = TRIES,
    ) -> None:
        self._store: Store = store
        self._patient: Store = patient
        self.shown = shown
        self._tagging = tagging
        self._tries = tries
        self._answered = False

    def close(self) -> None:
        """Do nothing: connections are let go of with the last reference."""

    # --- reading

    def get(self, key: str, limit: int = GET_LIMIT) -> bytes:
        """Return the value of ``key``; see `Remote.get`."""
        return self.get_tagged(key, limit)[0]

    def get_tagged(self, key: str, limit: int = GET_LIMIT) -> tuple[bytes, Tag]:
        """Return the value of ``key`` and its tag; see `Remote.get_tagged`."""
        parse_key(key)

        def get() -> tuple[bytes, Tag]:
            result = self._open(key, {})
            size = result.meta["size"]
            if size > limit:
                raise RemoteError(f"'{key}' at '{self.shown}' has {size} bytes, over {limit}")
            return self._whole(bytes(result.bytes()), size, key), self._tag(result.meta) or Tag("")

        return self._retried(key, get)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return a part of the value of ``key``; see `Remote.get_range`."""
        parse_key(key)
        check_range(start, stop)

        def get() -> bytes:
            data = bytes(self._store.get_range(key, start=start, end=stop))
            return self._whole(data, stop - start, key)

        return self._retried(key, get)

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the value of ``key``; see `Remote.stream`."""
        parse_key(key)
        done, size, tag = 0, 0, ""

        def rest() -> Iterator[bytes]:
            nonlocal done, size, tag
            with self._explained(key):
                result = self._patient.get(key, options=_resuming(done, tag))
                size, tag = result.meta["size"], result.meta["e_tag"] or ""
                for piece in result.stream(min_chunk_size=PIECE):
                    done += len(piece)
                    yield bytes(piece)
                if done < size:
                    raise PassingError(f"'{key}' at '{self.shown}' ended early")

        yield from resumed(rest, self._tries)

    def head(self, key: str) -> Found | None:
        """Return what is known of ``key``; see `Remote.head`."""
        parse_key(key)
        try:
            return self._retried(key, lambda: self._found(key, self._store.head(key)))
        except NotFoundError:
            self._check_bucket(key)
            return None

    def _check_bucket(self, key: str) -> None:
        """Tell a missing bucket from a missing value: a HEAD is answered without saying which.

        Once for all: whatever has been answered before shows that the bucket is there.
        """
        if not self._answered:
            with suppress(NotFoundError):
                self._retried(key, lambda: self._open(key, {}))
            self._answered = True

    def list(self, prefix: str = "") -> Iterator[Found]:
        """Yield the values below ``prefix``; see `Remote.list`."""
        prefix = parse_prefix(prefix)
        seen: set[str] = set()  # not every server lists in order, or can go on from a key

        def rest() -> Iterator[Found]:
            with self._explained(prefix):
                for page in self._store.list(prefix or None, chunk_size=_PAGE):
                    for meta in page:
                        key = meta["path"]
                        if is_key(key) and key not in seen:
                            seen.add(key)
                            yield self._found(key, meta)

        yield from resumed(rest, self._tries)

    # --- writing

    def put(self, key: str, source: Source) -> None:
        """Put a value; see `Remote.put`."""
        parse_key(key)
        content = content_of(source)
        if content.size > WHOLE_LIMIT:
            self._retried(key, lambda: self._put_parts(key, content), tries=2)
        else:
            data = held(content)
            self._retried(key, lambda: self._put_whole(key, data, "overwrite"))

    def put_if_absent(self, key: str, source: Source) -> bool:
        """Put a value unless there is one; see `Remote.put_if_absent`."""
        content = content_of(source)
        if content.size > WHOLE_LIMIT:  # obstore would take all of it into memory
            if self.head(key) is not None:
                return False
            self.put(key, content)
            return True
        parse_key(key)
        data = held(content)
        return self._retried(key, lambda: self._create(key, data))

    def _create(self, key: str, data: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            self._put_whole(key, data, "create")
        except (AlreadyExistsError, PreconditionError) as error:
            if self.head(key) is None:
                raise PassingError(f"'{self.shown}' is busy with '{key}'") from error
            return False
        return True

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Replace a value if it is the expected one; see `Remote.swap`."""
        parse_key(key)
        check_swap(data)
        mode = self._mode(expected)

        def attempt() -> Tag:
            from obstore.exceptions import AlreadyExistsError, PreconditionError

            try:
                return self._tag(self._put_whole(key, data, mode)) or Tag("")
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return self._settle(key, data, expected)

        return self._retried(key, attempt)

    def _settle(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Find out whose value is there after the server refused to put ours."""
        try:
            found, tag = self.get_tagged(key)
        except NotFoundError:
            if expected is None:
                raise PassingError(f"'{self.shown}' is busy with '{key}'") from None
        else:
            if found == data:
                return tag
            if tag == expected:
                raise PassingError(f"'{self.shown}' is busy with '{key}'")
        raise ConflictError(f"'{key}' at '{self.shown}' was changed by somebody else meanwhile")

    def delete(self, keys: Iterable[str]) -> None:
        """Remove values; see `Remote.delete`."""
        waiting = iter([parse_key(key) for key in keys])
        failed: RemoteError | None = None
        while batch := list(islice(waiting, _PAGE)):
            failed = self._delete(batch) or failed
        if failed is not None:
            raise failed

    def _delete(self, keys: Sequence[str]) -> RemoteError | None:
        """Remove ``keys`` in one request, else one by one: not every server knows the former."""
        try:
            self._retried(keys[0], lambda: self._store.delete(keys))
        except (RemoteError, NotFoundError) as error:
            if len(keys) == 1:
                return error if isinstance(error, RemoteError) else None
        else:
            return None
        failures = [self._delete([key]) for key in keys]
        return next((failure for failure in failures if failure), None)

    # --- requests

    def _open(self, key: str, options: GetOptions) -> GetResult:
        result: GetResult = self._store.get(key, options=options)
        return result

    def _put_whole(self, key: str, data: bytes, mode: PutMode) -> PutResult:
        # As a file it is copied: obstore 0.11 on Python 3.10 would give bytes back to Python while
        # it holds the lock of its memory store, and wait for whoever waits for that.
        file = BytesIO(data)
        result: PutResult = self._store.put(key, file, mode=mode, use_multipart=False)
        return result

    def _put_parts(self, key: str, content: Content) -> None:
        part = max(_PART, -(-content.size // _MAX_PARTS))
        self._patient.put(
            key,
            content.pieces(),
            use_multipart=True,
            chunk_size=part,
            max_concurrency=_PARTS_AT_ONCE,
        )

    def _mode(self, expected: Tag | None) -> PutMode:
        if expected is None:
            return "create"
        if self._tagging is Tagging.VERSION:
            return {"version": expected}
        return {"e_tag": expected if self._tagging is Tagging.BARE else f'"{expected}"'}

    def _tag(self, meta: ObjectMeta | PutResult) -> Tag | None:
        if self._tagging is Tagging.VERSION:
            return Tag(meta["version"]) if meta["version"] else None
        tag = (meta["e_tag"] or "").strip('"')  # Azure quotes them in answers, not in listings
        return Tag(tag) if tag else None

    def _found(self, key: str, meta: ObjectMeta) -> Found:
        return Found(key, meta["size"], self._tag(meta), meta["last_modified"])

    def _whole(self, data: bytes, size: int, key: str) -> bytes:
        if len(data) != size:
            raise RemoteError(f"'{self.shown}' gave {len(data)} bytes of '{key}', not {size}")
        return data

    # --- errors

    def _retried(self, key: str, call: Callable[[], Result], tries: int | None = None) -> Result:
        def explained() -> Result:
            with self._explained(key):
                return call()

        result = retried(explained, tries or self._tries)
        self._answered = True
        return result

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise self._explain(error, key) from error

    def _explain(self, error: Exception, key: str) -> RemoteError | NotFoundError | ConflictError:
        from obstore import exceptions

        text = str(error)
        if _NO_BUCKET.search(text):
            return RemoteError(
                f"there is no bucket for '{self.shown}'", "make it, or correct its name"
            )
        if isinstance(error, FileNotFoundError):
            return NotFoundError(f"'{self.shown}' has no '{key}'")
        if isinstance(error, exceptions.PreconditionError):
            return ConflictError(f"'{key}' at '{self.shown}' was changed while it was read")
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            return RemoteError(
                f"'{self.shown}' refused the credentials: {_reason(text)}", _CREDENTIALS
            )
        message = f"'{self.shown}' failed: {_reason(text)}"
        if isinstance(error, exceptions.GenericError) and not _PERMANENT.search(text):
            return PassingError(message, "check the connection and run the command again")
        return RemoteError(message)


_CREDENTIALS = "see `mstore help remote` for the variables and files that hold them"


def _resuming(done: int, tag: str) -> GetOptions:
    """Return the options that ask for the rest of a value of which ``done`` bytes are here."""
    if not done:
        return {}
    return {"range": {"offset": done}, "if_match": tag} if tag else {"range": {"offset": done}}


def _reason(text: str) -> str:
    """Return what obstore says in one line, without the queries of URLs, which may hold signatures."""
    said = text.partition("Debug source:")[0].strip()
    said = _MARKUP.sub(lambda match: f" {match['code'] or ''}", said)
    first = _PROLOGUE.sub("", said.partition("\n")[0])
    return _QUERY.sub(r"\1", first).strip()[:300]


def memory_remote() -> CloudRemote:
    """Return a remote in the memory of this process, for tests."""
    from obstore.store import MemoryStore

    store = MemoryStore()
    return CloudRemote(store, store, "memory://", Tagging.QUOTED)
