"""The one place where an error, or a signal, becomes words on stderr and an exit code."""

from __future__ import annotations

import difflib
import errno
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import click

from modelstore.errors import StoreError
from modelstore.names import printable

_INTERNAL = 70
_INTERRUPTED = 130
_BROKEN_PIPE = 141

_STOPPING = ("SIGTERM", "SIGHUP")
"""What a container, a batch system or a closed terminal ends a program with."""


class _Stopped(KeyboardInterrupt):
    """A signal that asks to stop: like Ctrl-C it leaves through every `finally` on its way."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def run(command: click.Command, args: list[str] | None, *, name: str = "mstore") -> NoReturn:
    """Run ``command`` and exit; no traceback ever reaches the user unless MSTORE_DEBUG is set."""
    words = sys.argv[1:] if args is None else args
    try:
        with (
            _orderly_stop(),
            command.make_context(name, list(words), color=_color()) as context,
        ):
            result = command.invoke(context)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except _Stopped as stopped:
        with suppress(OSError):  # the terminal may be what has gone
            _exit(128 + stopped.number, "stopped by a signal", "", words)
        sys.exit(128 + stopped.number)
    except (KeyboardInterrupt, click.exceptions.Abort):
        _interrupted(words)
    except click.ClickException as error:
        _usage(error, words)
    except StoreError as error:
        _exit(error.exit_code, error.message, error.hint, words, kind=type(error).__name__)
    except BrokenPipeError:
        _broken_pipe()
    except OSError as error:
        if error.errno == errno.EPIPE:
            _broken_pipe()
        _internal(error, words)
    except Exception as error:
        _internal(error, words)
    sys.exit(result if isinstance(result, int) else 0)


@contextmanager
def _orderly_stop() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise, so that what was staged is cleaned up; those ignored stay so.

    A second one is ignored: it would cut the cleaning short.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [getattr(signal, name) for name in _STOPPING if hasattr(signal, name)]
    taken = [number for number in wanted if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, _: object) -> None:
        for one in taken:
            signal.signal(one, signal.SIG_IGN)
        raise _Stopped(number)

    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the word that ``word`` was probably meant to be, or ""."""
    found = difflib.get_close_matches(word, list(words), n=1)
    return found[0] if found else ""


def _usage(error: click.ClickException, words: list[str]) -> NoReturn:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        sys.exit(error.exit_code)
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and not _wants_json(words):
        click.echo(context.get_usage(), err=True)
    message = " ".join(error.format_message().split())
    hint = f"run: {context.command_path} --help" if context is not None else ""
    _exit(error.exit_code, message, hint, words, kind="UsageError")


def _interrupted(words: list[str]) -> NoReturn:
    if sys.stderr.isatty():
        click.echo(err=True)  # the terminal has just written ^C
    _exit(_INTERRUPTED, "interrupted", "", words)


def _internal(error: Exception, words: list[str]) -> NoReturn:
    if os.environ.get("MSTORE_DEBUG"):
        traceback.print_exc()
    what = f"{type(error).__name__}: {error}".strip(": ")
    _exit(
        _INTERNAL,
        f"this is a bug in mstore ({what})",
        "run it again with MSTORE_DEBUG=1 and report what it prints",
        words,
        kind="InternalError",
    )


def _exit(
    code: int, message: str, hint: str, words: list[str], *, kind: str = "Interrupted"
) -> NoReturn:
    if _wants_json(words):
        data = {"kind": kind, "exit": code, "message": message, "hint": hint}
        print(json.dumps({"schema": "mstore/error/1", "data": data}), file=sys.stderr)
    else:
        _remark("Error", "red", message)
        if hint:
            _remark("Hint", "yellow", hint)
    sys.exit(code)


def _remark(word: str, colour: str, text: str) -> None:
    click.echo(f"{click.style(word, fg=colour)}: {printable(text)}", err=True, color=_color())


def _color() -> bool | None:
    """Return False where NO_COLOR forbids colours (no-color.org), None to look for a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def _wants_json(words: list[str]) -> bool:
    return "--json" in words


def _broken_pipe() -> NoReturn:
    os._exit(_BROKEN_PIPE)  # the reader has gone; an ordinary exit would try to flush to it
