"""What a model learns from: an answer, and the turns or the text that it answers."""

from __future__ import annotations

from dataclasses import dataclass

from modelstore.canonical import canonical
from modelstore.hashing import checksum

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
"""Who may speak in a conversation."""

KEY_SIZE = 16
"""Bytes of a row's key: two of a billion rows have the same one by chance once in 10^20 times."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: one of `ROLES`.
        content: what was said.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to learn: an answer, and what it answers.

    Attributes:
        context: the turns before the answer, or the plain text before it ("" where there is none).
        answer: what the loss is computed on.
        where: file and line, for messages to the user.
    """

    context: tuple[Message, ...] | str
    answer: str
    where: str

    @property
    def key(self) -> bytes:
        """`KEY_SIZE` bytes that are equal for rows that teach the same, wherever they stand."""
        context = self.context
        if not isinstance(context, str):
            said = [text for turn in context for text in (turn.role, turn.content)]
            return checksum(canonical([*said, self.answer]), KEY_SIZE)
        return checksum(canonical({"context": context, "answer": self.answer}), KEY_SIZE)
