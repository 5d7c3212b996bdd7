"""Conversations by a model's own chat template: where the answer begins, and on which day."""

from __future__ import annotations

import sys
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import UsageError
from modelstore.training.chat import _STRFTIME, Chat
from modelstore.training.rows import Message
from tests.training.templates import llama_3_2, qwen_3
from tests.training.tiny import CHAT_TEMPLATE, make_tokenizer

pytest.importorskip("trl")

WHO = (Message("user", "Who?"),)
BODY = "{% for m in messages %}{{ m.content }}{% endfor %}"


def _render(template: str, *said: str, answer: str = "Me.") -> tuple[str, str]:
    """Return what asks and what answers, where user and assistant take turns."""
    turns = [Message("assistant" if at % 2 else "user", text) for at, text in enumerate(said)]
    return Chat(make_tokenizer(template)).render(tuple(turns), answer, "a:1")


def test_llama_does_not_see_the_day() -> None:
    """Llama 3.2's template writes the date that it was published with, every day."""
    asked, answer = _render(llama_3_2(), "Who?")
    assert "Today Date: 26 Jul 2024\n" in asked
    assert asked.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")
    assert answer == "Me.<|eot_id|>"


@pytest.mark.parametrize(
    ("clock", "shown"),
    [
        ("{{ strftime_now('%Y-%m-%d') }}", "2024-07-26"),
        ("{{- strftime_now( '%d' ~ ' %B' ) }}", "26 July"),
        ("{% set form = '%-d.%-m.' %}{{ strftime_now(form) }}", "26.7."),
        ("{% set now = strftime_now %}{{ now(format='%A') }}", "Friday"),
        ("{{ strftime_now('%Y') | int + 1 }}", "2025"),
        ("{{ strftime_now('100%% %%d') }}", "100% %d"),
        ("{% if strftime_now is defined %}{{ strftime_now('%H:%M') }}{% endif %}", "00:00"),
        ("{% macro m() %}{{ strftime_now('%y') }}{% endmacro %}{{ m() }}", "24"),
        ("{{ date_string | default('1 Jan 2000') }}", "1 Jan 2000"),
        ("{% set date_string = strftime_now('%d %b %Y') %}{{ date_string }}", "26 Jul 2024"),
    ],
)
def test_no_template_sees_the_day(clock: str, shown: str) -> None:
    """However a template asks for the time, it is always the same."""
    assert _render(f"{clock}|{BODY}", "Who?") == (f"{shown}|Who?", "Me.")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems lack some directives")
@given(parts=st.lists(st.sampled_from([*_STRFTIME, "%", " of ", "\"'é"]), max_size=6))
def test_the_clock_that_stands_still_is_right(parts: list[str]) -> None:
    """Every directive gives what Python's strftime gives on that day."""
    form = "".join(f"%{part}" if part in _STRFTIME or part == "%" else part for part in parts)
    template = "{{ strftime_now(messages[0].content) }}|" + BODY.replace("messages", "messages[1:]")
    if "%s" in form.replace("%%", ""):  # seconds since 1970 are another number in another zone
        return
    asked, _ = Chat(make_tokenizer(template)).render((Message("user", form), *WHO), "a", "a:1")
    assert asked.split("|")[0] == datetime(2024, 7, 26).strftime(form)  # noqa: DTZ001


def test_the_clock_changes_nothing_else() -> None:
    """What a template writes without a clock is what it writes with it, white space and all."""
    for template in (CHAT_TEMPLATE, "\n  {% if true %}\n a{% endif %}\n{{ 1 }} " + BODY):
        tokenizer = make_tokenizer(template)
        turns = [{"role": "user", "content": "Who?"}]
        plain = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        assert Chat(tokenizer).render(WHO, "Me.", "a:1")[0] == plain


def test_thoughts_of_the_past_are_not_shown() -> None:
    """Qwen3 forgets what it thought before; the answer that is learned keeps its own thoughts."""
    first, second = "<think>\nhm\n</think>\n\nMe.", "<think>\nno\n</think>\n\nYou."
    assert _render(qwen_3(), "Who?", answer=first) == (
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n",
        f"{first}<|im_end|>\n",
    )
    asked, answer = _render(qwen_3(), "Who?", first, "Else?", answer=second)
    assert asked == (
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nMe.<|im_end|>\n"
        "<|im_start|>user\nElse?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert answer == f"{second}<|im_end|>\n"


def test_an_answer_without_thoughts_learns_to_have_none() -> None:
    """Qwen3 writes an empty thought before such an answer, and that is learned with it."""
    _, answer = _render(qwen_3(), "Who?")
    assert answer == "<think>\n\n</think>\n\nMe.<|im_end|>\n"


THINKING = (
    "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}{% else %}<a>"
    "{{ m.content }}<e>{% endif %}{% endfor %}{% if add_generation_prompt %}<a><think>{% endif %}"
)


@pytest.mark.parametrize("answer", ["Me.", "<think>", "<th", "<thinking"])
def test_a_template_that_asks_for_thoughts(answer: str) -> None:
    """Where the question ends in more than the answer begins with, all of the answer is learned."""
    assert _render(THINKING, "Who?", answer=answer) == (
        "<u>Who?<a><think>" if answer.startswith("<think>") else "<u>Who?<a>",
        f"{answer}<e>".removeprefix("<think>"),
    )


def test_a_template_without_marks() -> None:
    """One that does nothing when asked to ask needs no mark: what it adds for the answer is learned."""
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    assert _render(template, "Who?") == ("[user]Who?", "[assistant]Me.")


def test_conversations_need_a_chat_template() -> None:
    """A base without a chat template cannot learn conversations, and the error says what can."""
    with pytest.raises(UsageError, match="a:1: a conversation") as caught:
        _render("", "Who?")
    assert "prompt and completion" in caught.value.hint


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('only users may speak') }}", "only users may speak"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages[0].content + 1 }}", "str"),
        ("{{ messages[9].content.x }}", "no element 9"),
        ("{{ 1 // 0 }}", "zero"),
        ("{{ strftime_now() }}", "'format' was not provided"),
    ],
)
def test_a_template_may_refuse(template: str, reason: str) -> None:
    """What a template raises, or how it fails, is told with the row it was raised for."""
    with pytest.raises(UsageError, match=f"a:1: .*{reason}"):
        _render(template, "Who?")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (
            "{% if add_generation_prompt %}ask{% else %}told{% endif %}{{ messages[-1].content }}",
            "does not put the answer after the question",
        ),
        ("{{ messages[0].content }}", "writes nothing for the answer"),
    ],
)
def test_a_template_that_rewrites_the_question_is_refused(template: str, problem: str) -> None:
    """Where the answer does not follow the question as it would be asked, no loss can be placed."""
    with pytest.raises(UsageError, match=problem):
        _render(template, "Who?")


def test_turns_that_a_template_rewrites() -> None:
    """Qwen3 writes two answers in a row otherwise than one; the row is refused, not mangled."""
    twice = (*WHO, Message("assistant", "Me."))
    with pytest.raises(UsageError, match=r"a:7: .* does not put the answer after the question"):
        Chat(make_tokenizer(qwen_3())).render(twice, "And you.", "a:7")
