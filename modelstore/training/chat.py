"""Conversations as text, by the chat template that comes with a model.

What a template writes must not depend on the day it is used on, or equal seeds would give other
weights tomorrow: Llama 3.2's writes today's date at the top of every conversation.
Its clock, ``strftime_now``, is replaced by one that stands still.
transformers lets a template see data and no functions of ours, so the clock is written in the
template's own language and put before it; the template may call it however it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.errors import UsageError
from modelstore.training.rows import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RENDER_DATE = "26 Jul 2024"
"""The day that chat templates see, at midnight; Llama 3.2's own falls back to this one."""

# fmt: off
_STRFTIME = {
    "a": "Fri", "A": "Friday", "w": "5", "u": "5", "d": "26", "-d": "26", "e": "26", "j": "208",
    "b": "Jul", "h": "Jul", "B": "July", "m": "07", "-m": "7", "y": "24", "Y": "2024", "-j": "208",
    "U": "29", "W": "30", "V": "30", "G": "2024", "g": "24", "C": "20", "H": "00", "-H": "0",
    "k": " 0", "I": "12", "-I": "12", "l": "12", "p": "AM", "P": "am", "M": "00", "-M": "0",
    "S": "00", "-S": "0", "f": "000000", "s": "1721952000", "z": "", "Z": "", "n": "\n", "t": "\t",
    "D": "07/26/24", "F": "2024-07-26", "x": "07/26/24", "T": "00:00:00", "X": "00:00:00",
    "R": "00:00", "r": "12:00:00 AM", "c": "Fri Jul 26 00:00:00 2024",
}
# fmt: on
"""What the directives of strftime give on `RENDER_DATE`, in the C locale."""

_PROGRAM_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""How a template fails beside jinja2's own errors, being a small program."""


def _stopped_clock() -> str:
    """Return a macro that takes the place of transformers' ``strftime_now``."""
    filled = "".join(f'|replace("%{key}", "{text}")' for key, text in _STRFTIME.items())
    filled = filled.replace("\n", "\\n").replace("\t", "\\t")
    return (
        "{%- macro strftime_now(format) -%}"
        '{%- for part in format.split("%%") -%}{{ part' + filled + " }}"
        '{%- if not loop.last -%}{{ "%" }}{%- endif -%}{%- endfor -%}'
        # the line break is the macro's own: what follows begins a line, as it did without it
        "{%- endmacro %}\n"
    )


class Chat:
    """The chat template of a tokenizer, on `RENDER_DATE`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._template = ""
        if tokenizer.chat_template:
            self._template = _stopped_clock() + tokenizer.get_chat_template()

    def render(self, said: tuple[Message, ...], answer: str, where: str) -> tuple[str, str]:
        """Return the text that asks for an answer, and the answer's own with what ends it.

        Args:
            said: the turns before the answer.
            where: of the row, for messages.

        Raises:
            UsageError: there is no template, it refuses the conversation, or it writes what came
                before the answer in another way once the answer is there.
        """
        if not self._template:
            raise UsageError(
                f"{where}: a conversation, but the base's tokenizer has no chat template",
                "give rows with prompt and completion, or start from an instruct model",
            )
        turns = [{"role": turn.role, "content": turn.content} for turn in said]
        asked = self._text(turns, where, asks=True)
        answered = [*turns, {"role": "assistant", "content": answer}]
        whole = self._text(answered, where, asks=False)
        if not whole.startswith(asked):
            asked = self._boundary(turns, answer, where, asked, whole)
        if not whole[len(asked) :].strip():
            raise UsageError(
                f"{where}: the base's chat template writes nothing for the answer",
                "give rows with prompt and completion",
            )
        return asked, whole[len(asked) :]

    def _boundary(
        self, turns: list[dict[str, str]], answer: str, where: str, asked: str, whole: str
    ) -> str:
        """Return what ``whole`` has before the answer, where that is not just ``asked``.

        Templates of models that think ask with a ``<think>`` that they leave out of the answer:
        then it is what both have in common, if that is no less than all the turns.
        """
        history = self._text(turns, where, asks=False)
        common = _common(asked, whole)
        if not common.startswith(history):
            raise UsageError(
                f"{where}: the base's chat template does not put the answer after the question "
                "as it is asked",
                "give rows with prompt and completion, or conversations whose turns alternate",
            )
        begins = whole.find(answer.strip(), len(history))
        return common if begins < 0 else common[:begins]

    def _text(self, turns: list[dict[str, str]], where: str, *, asks: bool) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self._tokenizer.apply_chat_template(
                    turns,
                    chat_template=self._template,
                    add_generation_prompt=asks,
                    tokenize=False,
                )
            )
        except (TemplateError, *_PROGRAM_ERRORS) as error:
            raise UsageError(f"{where}: the base's chat template refuses it: {error}") from error


def _common(one: str, other: str) -> str:
    """Return what both begin with."""
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return one[:at]
    return min(one, other, key=len)
