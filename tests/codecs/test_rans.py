"""Symbols become streams and come back, whatever codes and decodes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.codecs import lanes, rans, rans_numba, rans_numpy
from modelstore.codecs.base import PayloadError, Planes

Drawn = tuple[Planes, Planes, rans.Tables]


@st.composite
def coded(draw: st.DrawFn) -> Drawn:
    """Draw symbols, their contexts, and tables that fit them more or less well."""
    count = draw(st.sampled_from((1, 7, 8, 9, 100, 5000)))
    kinds, contexts = draw(st.sampled_from((1, 2, 16, 256))), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    skew = draw(st.sampled_from((0.2, 1.0, 20.0)))
    symbols = (kinds * rng.random(count) ** skew).astype(np.uint8)
    numbers = rng.integers(0, contexts, count).astype(np.uint8)
    counts = np.zeros((contexts, kinds))
    np.add.at(counts, (numbers, symbols), 1)
    counts += draw(st.sampled_from((0.0, 1.0))) + (counts.sum(axis=1, keepdims=True) == 0)
    return symbols, numbers, rans.frequencies_of(counts)


def made(count: int, share: float) -> Drawn:
    """Return zeros and a share of ones, in two contexts that differ in it."""
    rng = np.random.default_rng(count)
    numbers = rng.integers(0, 2, count).astype(np.uint8)
    symbols = (rng.random(count) < share * (1 + numbers)).astype(np.uint8)
    ones = min(4000, max(1, round(4096 * share)))
    return symbols, numbers, np.array([[4096 - ones, ones], [2048, 2048]], np.uint16)


def decoded(stream: bytes, numbers: Planes | None, tables: rans.Tables, count: int) -> Planes:
    """Return all symbols of a stream that nothing follows."""
    symbols = np.empty(count, np.uint8)
    assert not rans.decode(memoryview(stream), numbers, tables, symbols)
    return symbols


@given(drawn=coded())
def test_symbols_come_back(drawn: Drawn):
    """Decoding a stream gives the symbols that were encoded, and leaves what follows it."""
    symbols, numbers, tables = drawn
    stream = rans.encode(symbols, numbers, tables)
    found = np.empty_like(symbols)
    assert rans.decode(memoryview(stream + b"more"), numbers, tables, found) == b"more"
    assert np.array_equal(found, symbols)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.4])
@pytest.mark.parametrize("sections", [0.5, 1, 1.7, 2.3, 3, 3.4, 4, 7.1])
def test_any_number_of_sections(sections: float, share: float):
    """Streams of few sections and of many come back, even where sections have hardly a word."""
    symbols, numbers, tables = made(round(sections * rans.SECTION) + 3, share)
    stream = rans.encode(symbols, numbers, tables)
    assert np.array_equal(decoded(stream, numbers, tables, symbols.size), symbols)


@pytest.mark.skipif(not lanes.AVAILABLE, reason="this processor has no such instructions")
@pytest.mark.parametrize("count", [20, 3 * rans.SECTION, 5 * rans.SECTION + 77])
def test_wide_loops_change_nothing(count: int, monkeypatch: pytest.MonkeyPatch):
    """Eight states in one register make the same bytes as one after the other, and read them."""
    symbols, numbers, tables = made(count, 0.1)
    wide = rans.encode(symbols, numbers, tables)
    monkeypatch.setattr(lanes, "AVAILABLE", False)
    assert rans.encode(symbols, numbers, tables) == wide
    assert np.array_equal(decoded(wide, numbers, tables, count), symbols)


@settings(max_examples=30)
@given(drawn=coded())
def test_numpy_decodes_the_same(drawn: Drawn):
    """Without a compiler, the same symbols, states and numbers of words come out."""
    symbols, numbers, tables = drawn
    stream = rans.encode(symbols, numbers, tables)
    words, states, _ = rans._take_stream(memoryview(stream), 1)
    table, slow = np.empty(len(tables) * rans.TOTAL, np.uint32), np.empty_like(symbols)
    rans_numba.decode_table(tables, table)
    assert np.array_equal(rans_numpy.decode_table(tables), table)
    used = rans_numpy.decode(words, states, table, numbers, rans.SECTION, slow)
    assert used == [len(words[0]) - rans.LANES]
    assert (states == 1 << 16).all()
    assert np.array_equal(slow, symbols)


@given(drawn=coded(), data=st.data())
def test_damage_is_refused_or_decodes(drawn: Drawn, data: st.DataObject):
    """Whatever becomes of a stream, decoding ends: with symbols or with a PayloadError."""
    symbols, numbers, tables = drawn
    stream = bytearray(rans.encode(symbols, numbers, tables))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    stream = stream[: data.draw(st.sampled_from((len(stream), len(stream) // 2)))]
    try:
        rans.decode(memoryview(stream), numbers, tables, np.empty_like(symbols))
    except PayloadError:
        return


def test_too_few_words_are_refused():
    """A stream of several sections that claims fewer words than it takes is no stream."""
    symbols, numbers, tables = made(3 * rans.SECTION, 0.3)
    stream = bytearray(rans.encode(symbols, numbers, tables))
    stream[:12] = bytes(12)
    with pytest.raises(PayloadError):
        rans.decode(memoryview(stream), numbers, tables, np.empty_like(symbols))


def test_size_is_near_the_entropy():
    """A stream takes as many bits as its frequencies say, within 0.1 %."""
    symbols, numbers, tables = made(4 * rans.SECTION, 0.2)
    bits = 12 * symbols.size - np.log2(tables[numbers, symbols]).sum()
    assert 8 * len(rans.encode(symbols, numbers, tables)) < 1.001 * bits + 4 * 8 * 54


counts_of_rows = st.lists(
    st.integers(0, 1 << 20) | st.integers(0, 3) | st.just(1000), min_size=1, max_size=256
)


@given(row=counts_of_rows)
def test_frequencies_add_up(row: list[int]):
    """Every symbol that occurs has a frequency, no other has, and they add up."""
    counts = np.array([row], np.float64)
    counts[0, 0] += counts.sum() == 0
    tables = rans.frequencies_of(counts)
    rans.check_tables(tables)
    assert ((tables > 0) == (counts > 0)).all()


@pytest.mark.parametrize(("many", "few"), [(128, 0.01), (200, 11.6), (255, 15.4)])
def test_what_rounding_leaves_is_shared(many: int, few: float):
    """Where rounding adds more than the largest frequency has, all large ones give a little."""
    counts = np.full((1, 256), (4096 - many * few) / (256 - many))
    counts[0, :many] = few
    tables = rans.frequencies_of(counts)
    rans.check_tables(tables)
    assert tables.min() >= 1
