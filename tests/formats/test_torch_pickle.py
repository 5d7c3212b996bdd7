"""Reading pickles without unpickling them: every opcode, any order, any damage."""

from __future__ import annotations

import io
import pickle as python_pickle
import pickletools
from collections import OrderedDict
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.formats import pickle_machine as machine
from modelstore.formats.base import MalformedError
from modelstore.formats.torch_pickle import MAX_NAMES, read_tensors
from tests.builders import pickle_bytes, pickled, pickled_call, pickled_tensor


@pytest.mark.parametrize(
    "arguments",
    [(), (1, 2, 3, 4), (None, 0, (1,), (1,)), ("x",) * 9, ((), (), (), ()), (0, 0, (-1,), (1,))],
)
@pytest.mark.parametrize("suffix", ["", "_v2", "_v3"])
def test_odd_arguments_make_no_tensor(arguments: tuple[object, ...], suffix: str) -> None:
    """A rebuilding call with arguments that are none is an unknown call."""
    call = pickled_call("torch._utils", f"_rebuild_tensor{suffix}", *arguments)
    assert read_tensors(pickle_bytes({"w": call})).tensors == {}


def test_every_opcode_is_known() -> None:
    """The machine has a step for each opcode that pickletools decodes."""
    known = {*machine._NOTHING, *machine._VALUES, *machine._CONSTANTS, *machine._EMPTY}
    known |= {*machine._TUPLES, *machine._PUT, *machine._GET, *machine._STEPS}
    assert known == {opcode.name for opcode in pickletools.opcodes}


@pytest.mark.parametrize("protocol", range(6))
def test_reads_what_python_pickles(protocol: int) -> None:
    """Plain values of every protocol are read, without tensors and without a complaint."""
    value = {"a": [1, 2.5, "x", b"y", None, (1, 2, 3, 4), {5, 6}, frozenset({7}), 1 << 70]}
    value["b"] = [io.SEEK_END, value["a"], bytearray(b"z"), OrderedDict(q=1), complex(1, 2)]
    assert read_tensors(python_pickle.dumps(value, protocol)).tensors == {}


@given(st.binary(max_size=60))
def test_noise_is_no_pickle_or_a_harmless_one(noise: bytes) -> None:
    """Any bytes either read as a pickle or are refused as malformed."""
    with suppress(MalformedError):
        read_tensors(noise + b".")


@given(st.lists(st.sampled_from([o.code for o in pickletools.opcodes]), max_size=40))
def test_any_order_of_opcodes_is_survived(codes: list[str]) -> None:
    """Opcodes in any order, with arguments or without, do no harm."""
    small = b"".join(code.encode("latin-1") + b"\1" for code in codes)
    for pickle in (small, small.replace(b"\1", b"1\n"), b"((" + small.replace(b"\1", b"")):
        with suppress(MalformedError):
            read_tensors(pickle + b".")


def test_shared_containers_do_not_multiply() -> None:
    """Lists that hold each other twice, sixty levels deep, are walked once."""
    pickle = b"\x80\x02]q\x00"
    for level in range(60):
        pickle += b"](" + b"h" + bytes([level]) + b"h" + bytes([level]) + b"eq" + bytes([level + 1])
    assert read_tensors(pickle + b".").tensors == {}


def test_a_container_that_holds_itself_is_survived() -> None:
    """A cycle ends the walk where it closes."""
    tensor = pickled_tensor("0", "F32", 1, (1,))
    pickle = b"\x80\x02}q\x00(" + pickled("me") + b"h\x00" + pickled("w") + tensor + b"u."
    assert list(read_tensors(pickle).tensors) == ["w"]


def test_deep_nesting_is_survived() -> None:
    """A hundred thousand tuples within each other neither overflow the stack nor take long."""
    assert read_tensors(b"\x80\x02)" + b"\x85" * 100_000 + b".").tensors == {}


@pytest.mark.parametrize(
    "pickle",
    [
        b"", b".", b"\x80\x02", b"\x80\x02t.", b"\x80\x02h\x05.", b"\x80\x02N\x86.", b"\x80\x02R.",
        b"X\xff\xff\xff\x7fabc.", b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", b"Np99999999999\n.",
        b"I" + b"9" * 5000 + b"\n.", b"\x8b\xff\xff\xff\x7f.", b"cos\n", b"\xff.",
    ],
)  # fmt: skip
def test_damaged_pickles_are_refused(pickle: bytes) -> None:
    """A pickle that ends early, underflows or claims too much is malformed."""
    with pytest.raises(MalformedError):
        read_tensors(pickle)


def test_too_many_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle that takes more steps than any model's is given up."""
    monkeypatch.setattr(machine, "MAX_OPS", 100)
    with pytest.raises(MalformedError, match="more than 100 steps"):
        read_tensors(b"N" * 200 + b".")


def test_too_many_names_are_refused() -> None:
    """A tensor that is repeated without end is given up."""
    tensor = pickled_tensor("0", "F32", 1, (1,))
    pickle = b"\x80\x02](" + tensor + b"q\x01" + b"h\x01" * (MAX_NAMES + 1) + b"e."
    with pytest.raises(MalformedError, match="tensors"):
        read_tensors(pickle)
