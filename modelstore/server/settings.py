"""What a server is told when it is started."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from modelstore.errors import UsageError

HOST, PORT = "127.0.0.1", 7878
"""Where it listens unless told otherwise."""

_LEAST_TOKEN = 16
"""Characters of a token: guessing one over a network must be hopeless."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What a server is told when it is started.

    Attributes:
        host, port: where it listens; port 0 is any that is free.
        token: what whoever changes the store must know, and from other machines whoever reads; "" is
            none: then nothing is changed, and only this machine is served.
        read_only: change nothing, whoever asks.
        allow_pickle: hand out files that may run code in whoever loads them.
        names: hosts by which clients may call it, beside its own; a proxy's.
        connections: how many it keeps open at once.

    Raises:
        UsageError: the token is too short, or another machine would be served without one.
    """

    host: str = HOST
    port: int = PORT
    token: str = ""
    read_only: bool = False
    allow_pickle: bool = False
    names: tuple[str, ...] = ()
    connections: int = 512

    def __post_init__(self) -> None:
        if self.token and (len(self.token) < _LEAST_TOKEN or not self.token.isascii()):
            raise UsageError(
                f"the token is not {_LEAST_TOKEN} or more plain characters",
                "have one made: mstore serve --token",
            )
        if not self.token and not self.is_local:
            raise UsageError(
                f"on {self.host!r} other machines can read the store, so it needs a token",
                f"have one made: mstore serve --host {self.host} --token",
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @property
    def may_write(self) -> bool:
        """Whether anybody may change the store."""
        return bool(self.token) and not self.read_only


def is_loopback(host: str) -> bool:
    """Tell whether an address, or a name, is that of the machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
