"""Every error that mstore raises on purpose, drawn as one tree.

StoreError                 1   a negative answer, or the base of all others
├── UsageError             2   the request itself is wrong (also a ValueError)
│   └── BadNameError       2   a model, version, alias, ref or path that cannot be one
├── PartialError           3   part of the work was done
├── NotFoundError          4   nothing has that name (also a LookupError)
│   └── AmbiguousError     4   more than one thing has that name
├── ConflictError          5   it exists already, or moved meanwhile, or would be overwritten
├── IntegrityError         6   bytes are not what their name or checksum says
├── RemoteError            7   a remote refused or failed
├── DiskFullError          8   no space, no inodes, or over quota
├── NoStoreError          10   there is no store here
├── LockTimeoutError      11   another process holds the lock (also a TimeoutError)
├── WrongKeyError         12   the key or passphrase is not the one it was sealed with
├── NewerFormatError      13   written by a newer mstore
├── DivergedError         14   training ran away
└── StoppedError         130   a signal ended it, and it can be continued

The number is the exit code of the command line.
They are grouped by what a caller would do next, not by where they arise.
A message is one sentence that names the thing; the hint is the next command to type.
"""

from __future__ import annotations


class StoreError(Exception):
    """What failed, in one sentence, and what to do about it.

    Args:
        message: one sentence that names the thing in quotes.
        hint: the next command to type, or "" where there is none.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(StoreError, ValueError):
    """The request contradicts itself or asks for what cannot be."""

    exit_code = 2


class BadNameError(UsageError):
    """A string cannot be the name it was given as."""


class PartialError(StoreError):
    """Some of the work was done and the rest was not."""

    exit_code = 3


class NotFoundError(StoreError, LookupError):
    """Nothing in the store has that name."""

    exit_code = 4


class AmbiguousError(NotFoundError):
    """More than one thing in the store has that name."""


class ConflictError(StoreError):
    """The state of the store, or of a directory, forbids the change."""

    exit_code = 5


class IntegrityError(StoreError):
    """Bytes do not match their name or checksum."""

    exit_code = 6


class RemoteError(StoreError):
    """A remote refused or failed."""

    exit_code = 7


class DiskFullError(StoreError):
    """The file system has no room for what must be written."""

    exit_code = 8


class NoStoreError(StoreError):
    """There is no store where one was looked for."""

    exit_code = 10


class LockTimeoutError(StoreError, TimeoutError):
    """Another process holds the lock for longer than we waited."""

    exit_code = 11


class WrongKeyError(StoreError):
    """A sealed remote was made with another key or passphrase."""

    exit_code = 12


class NewerFormatError(StoreError):
    """The store was written by a newer mstore."""

    exit_code = 13


class DivergedError(StoreError):
    """Training produced losses that are not numbers, or that only grow."""

    exit_code = 14


class StoppedError(StoreError):
    """A signal asked to stop; what was done so far is kept and can be continued."""

    exit_code = 130
