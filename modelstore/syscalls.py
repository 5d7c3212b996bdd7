"""The system calls that change a disk or make a change durable: all of them that mstore makes.

`modelstore.disk` and `modelstore.groupsync` are written on top of them; nothing else calls them. So
a test that puts a subclass in the place of `disk.calls` sees every change there is, in order, and
can write them down, kill the process between two, or let one fail as a disk would (tests/faults.py).

A call here is the system's own: no retry, no message, no policy.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from modelstore.hashing import Bytes

_FICLONE = 0x40049409
"""ioctl_ficlone(2)."""


class Syscalls:
    """One method a call; errors are `OSError`.

    A descriptor is an int; data is any contiguous buffer of bytes. `write` and `pwrite` return how
    many bytes were taken, which may be fewer than were given.
    """

    def open(self, path: Path, flags: int, mode: int = 0o666) -> int:
        """Return a descriptor of what is written to, or of a file or directory to sync."""
        return os.open(path, flags, mode)

    def close(self, handle: int) -> None:
        """Close a descriptor; file systems over a network tell only now that the disk is full."""
        os.close(handle)

    def write(self, handle: int, data: Bytes) -> int:
        """Write at the descriptor's place, which is the end of a file opened to append."""
        return os.write(handle, data)

    def pwrite(self, handle: int, data: Bytes, offset: int) -> int:
        """Write at ``offset`` bytes from the beginning."""
        if sys.platform == "win32":
            os.lseek(handle, offset, os.SEEK_SET)
            return os.write(handle, data)
        return os.pwrite(handle, data, offset)

    def clone(self, handle: int, source: int) -> None:
        """Let a file share all blocks of another; Linux, where the file system can do it."""
        if not sys.platform.startswith("linux"):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        import fcntl  # does not exist on Windows

        fcntl.ioctl(handle, _FICLONE, source)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file."""
        os.truncate(path, size)

    def fsync(self, handle: int) -> None:
        """Make a file's bytes, or a directory's names, durable.

        macOS leaves them in the drive's cache unless told otherwise; SQLite asks in the same way.
        """
        if sys.platform == "darwin":
            import fcntl

            try:
                fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
                return
            except OSError:  # a file system that does not know it, as those of shares
                pass
        os.fsync(handle)

    def syncfs(self, handle: int) -> None:
        """Make everything on the file system of ``handle`` durable; Linux.

        The kernel reports a failed write-back only to descriptors that were open when it failed.
        """
        import ctypes  # only commits and checkouts of many files come here

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def mkdir(self, path: Path) -> None:
        """Create a directory."""
        os.mkdir(path)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a further name, which must be free."""
        os.link(source, target)

    def symlink(self, target: str, path: Path) -> None:
        """Make ``path``, which must be free, a link that says ``target``."""
        os.symlink(target, path)

    def rename(self, source: Path, target: Path) -> None:
        """Move a file or directory, over a file that is there."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        os.unlink(path)

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    def chmod(self, path: Path, mode: int) -> None:
        """Set permission bits."""
        os.chmod(path, mode)
