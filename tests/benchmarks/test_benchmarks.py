"""The benchmarks themselves: what they measure is what they say; how fast it is, is no test."""

from __future__ import annotations

import importlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.numeric import dtype_named
from modelstore.ops.resolve import resolve
from modelstore.store import Store

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    """Import a module of the benchmarks, which are programs and no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def write_safetensors(version: Path, values: bytes) -> None:
    """Write one bf16 tensor of these bytes."""
    version.mkdir()
    header = b'{"w":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]}}'
    header %= (len(values) // 2, len(values))
    (version / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + values)


def test_every_benchmark_can_be_loaded():
    """The program says what it can do, for which it imports all of its parts."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "run.py", "--help"], check=True, capture_output=True
    )
    assert b"registry" in done.stdout


def test_the_registry_of_many_versions_is_one_that_mstore_wrote(tmp_path, benchmark):
    """It has every version, one the parent of the next, and a reader finds nothing odd in it."""
    many = benchmark("many_versions")
    many.write_model(tmp_path / "content", 0)
    store = many.make_store(tmp_path / "store", tmp_path / "content", 20)
    state = store.state(many.MODEL)
    assert (len(state.versions()), state.notice) == (20, "")
    assert str(resolve(Store(store.root), "v1.19~19")) == "line@v1.0"
    assert store.manifest(many.MODEL, state.entries()[-1]).message == state.entries()[-1].text(
        "message"
    )


@pytest.mark.parametrize("split", ["bytes", "fields"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=st.binary(min_size=8, max_size=64), new=st.binary(min_size=8, max_size=64))
def test_bitx_gives_back_what_it_was_given(benchmark, split: str, old: bytes, new: bytes):
    """Planes of any bytes, with a base or without one, are joined to the bytes they were."""
    bitx = benchmark("bitx")
    for width in (1, 2, 4, 8):
        size = min(len(old), len(new)) // width * width
        for base in (None, old[:size]):
            planes = list(bitx.split(new[:size], base, width, split))
            assert bitx.join(planes, base, width, split) == new[:size]


def test_a_store_of_bitx_keeps_a_tensor_once_and_a_small_change_small(tmp_path, benchmark):
    """Two versions come back byte for byte, and the second costs little."""
    bitx, side_by_side = benchmark("bitx"), benchmark("side_by_side")
    random = Random(7)
    values = struct.pack("<4096H", *(0x3C00 + random.randrange(512) for _ in range(4096)))
    versions = [tmp_path / f"v1.{number}" for number in range(3)]
    for version, change in zip(versions, (values, values[:-2] + b"\x01\x3c", values), strict=True):
        write_safetensors(version, change)
    store, parent, sizes = bitx.Store(tmp_path / "store", "bytes"), None, []
    for version in versions:
        store.commit(version, parent)
        sizes.append((tmp_path / "store" / f"{version.name}.planes").stat().st_size)
        bitx.Store(tmp_path / "store", "bytes").checkout(version.name, tmp_path / "out")
        assert side_by_side.same_files(version, tmp_path / "out")
        parent = version
    assert sizes[0] > 4000
    assert sizes[1] < 200
    assert sizes[2] == 0


def test_a_trial_compares_what_comes_back_and_is_kept(tmp_path, benchmark):
    """Every version is stored and counted, a wrong file is noticed, and results can be read again."""
    weights, side_by_side = benchmark("weights"), benchmark("side_by_side")
    peers = benchmark("peers")
    home = tmp_path / "home"
    for number in range(2):
        (home / f"v1.{number}").mkdir(parents=True)
        (home / f"v1.{number}" / "config.json").write_text(f"{number}")
    history = weights.Histories(tmp_path).named(str(home))

    class Forgetful(peers.Copies):
        name = "forgetful"

        def checkout(self, version: str, target: Path):
            return super().checkout("v1.0", target)

    ways = [peers.Copies(), Forgetful()]
    good, bad = side_by_side.run(tmp_path / "work", history, ways, 2)
    assert (good.stored, good.increments(), good.exact) == ([1, 2], [1], True)
    assert len(good.commits[1]) == len(good.last) == 2
    assert (bad.exact, bad.failed) == (False, "")
    kept = side_by_side.load(side_by_side.results_file(tmp_path / "work", "home"))
    assert kept == [good, bad]
    assert "forgetful" in side_by_side.sizes(history, kept)
    assert "forgetful" in side_by_side.speeds(history, kept)


def test_a_peer_that_is_missing_or_fails_is_said_to(tmp_path, benchmark):
    """It has its row in the table, with the reason instead of figures."""
    weights, side_by_side = benchmark("weights"), benchmark("side_by_side")
    peers = benchmark("peers")
    (tmp_path / "home" / "v1.0").mkdir(parents=True)
    (tmp_path / "home" / "v1.0" / "config.json").write_text("{}")
    history = weights.Histories(tmp_path).named(str(tmp_path / "home"))

    class Absent(peers.Copies):
        name = "absent"
        program = "no-such-program"

    class Broken(peers.Copies):
        name = "broken"

        def commit(self, version: Path, parent: Path | None):
            return benchmark("measure").run("false")

    trials = side_by_side.run(tmp_path / "work", history, [Absent(), Broken()], 1)
    table = side_by_side.sizes(history, trials)
    assert "not installed" in table
    assert "failed: exit code 1" in table


def test_bounds_are_those_of_what_was_counted(benchmark):
    """A coin's exponent costs one bit; a difference that the base's exponent tells costs nothing."""
    bounds = benchmark("bounds")
    bf16 = dtype_named("BF16")
    coin = np.array([0x3F80, 0x3F00] * 2048, np.uint16)
    alone = bounds.Alone(bf16)
    alone.add(coin)
    assert alone.bits() == pytest.approx(1 + 8)
    delta = bounds.Delta(bf16)
    delta.add(coin + np.array([1, 3] * 2048, np.uint16), coin, (64, 64))
    assert delta.bits() == pytest.approx(0)
    assert delta.active_bits() == pytest.approx(0)


def test_values_are_ordered_as_their_numbers_are(benchmark):
    """The integers of bf16 values, from minus infinity to infinity, only grow."""
    bounds = benchmark("bounds")
    bits = np.array([0xFF80, 0xBF80, 0x8001, 0x8000, 0x0000, 0x0001, 0x3F80, 0x7F80], np.uint16)
    assert list(np.diff(bounds.ordered(bits, dtype_named("BF16"))) > 0) == [True] * 7


def test_tables_go_between_their_markers(tmp_path, benchmark):
    """A part of the page is replaced, and the prose around it stays; another part is an error."""
    page = benchmark("page")
    path = tmp_path / "page.md"
    path.write_text("a\n<!-- begin size -->\nold\n<!-- end size -->\nb\n")
    page.replace("size", r"new \1", path)
    assert path.read_text() == "a\n<!-- begin size -->\nnew \\1\n<!-- end size -->\nb\n"
    with pytest.raises(ValueError, match="begin memory"):
        page.replace("memory", "text", path)


def test_the_page_has_a_place_for_every_benchmark(benchmark):
    """docs/benchmarks.md has the markers of each of them once."""
    names, text = benchmark("run").NAMES, benchmark("page").PAGE.read_text(encoding="utf-8")
    for name in names:
        assert text.count(f"<!-- begin {name} -->") == text.count(f"<!-- end {name} -->") == 1


def test_charts_are_svg_that_names_everything(benchmark):
    """Both kinds parse as XML and hold the name of every series."""
    charts = benchmark("charts")
    for svg in (
        charts.lines("size", ["v1.0", "v1.1"], {"mstore": [1, 2], "a & b": [1, 2]}),
        charts.bars("speed", ("commit", "checkout"), {"mstore": (1, 2), "a & b": (3, 4)}),
    ):
        texts = "".join(ElementTree.fromstring(svg).itertext())
        assert "mstore" in texts
        assert "a & b" in texts


def test_a_target_is_reached_on_its_own_side(benchmark):
    """Sizes must not be above, and speeds not below; without a figure nothing is reached."""
    line = benchmark("targets").Line
    assert line("size", 0.5, 0.5).met
    assert not line("size", 0.5, 0.51).met
    assert line("speed", 1.0, 1.5, at_least=True).met
    assert not line("speed", 1.0, None, "not run", at_least=True).met


def test_the_large_model_has_every_matrix_four_times(tmp_path, benchmark):
    """Its parts are the rows and columns of the original, in both directions."""
    big, parts = benchmark("big_model"), benchmark("parts")
    header = b'{"w":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}'
    source = tmp_path / "small.safetensors"
    source.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<4H", 1, 2, 3, 4))
    big.write(source, tmp_path / "big.safetensors", stacked=False)
    found = {
        name: struct.unpack("<4H", data)
        for name, dtype, data in parts.tensors(tmp_path / "big.safetensors")
        if dtype
    }
    assert found == {
        "w": (1, 2, 3, 4),
        "rows.w": (3, 4, 1, 2),
        "columns.w": (2, 1, 4, 3),
        "both.w": (4, 3, 2, 1),
    }


def test_the_stacked_model_has_the_layers_of_a_kind_as_one_matrix(tmp_path, benchmark):
    """Rows of one layer follow those of the one before, and what belongs to no layer stays alone."""
    big, parts = benchmark("big_model"), benchmark("parts")
    shapes = {"e": [1, 2], "layers.0.w": [1, 2], "layers.1.w": [1, 2]}
    tensors = {
        name: {"dtype": "BF16", "shape": shape, "data_offsets": [4 * place, 4 * place + 4]}
        for place, (name, shape) in enumerate(shapes.items())
    }
    header = json.dumps(tensors).encode()
    source = tmp_path / "small.safetensors"
    source.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<6H", *range(6)))
    big.write(source, tmp_path / "stacked.safetensors", stacked=True)
    found = {name: data for name, _, data in parts.tensors(tmp_path / "stacked.safetensors")}
    assert struct.unpack("<4H", found["layers.all.w"]) == (2, 3, 4, 5)
    assert struct.unpack("<2H", found["columns.e"]) == (1, 0)
    assert struct.unpack("<4H", found["both.layers.all.w"]) == (3, 2, 5, 4)


def test_a_model_is_cut_to_its_largest_tensors(tmp_path, benchmark):
    """What is left is a safetensors file of just these, byte for byte."""
    parts = benchmark("parts")
    header = (
        b'{"__metadata__":{},"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},'
        b'"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]}}'
    )
    source, target = tmp_path / "all.safetensors", tmp_path / "cut.safetensors"
    source.write_bytes(struct.pack("<Q", len(header)) + header + bytes(range(10)))
    parts.cut(source, target, 1)
    assert list(parts.tensors(target))[1:] == [("b", "F32", bytes(range(2, 10)))]
