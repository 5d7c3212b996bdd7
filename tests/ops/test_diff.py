"""What diff says of two versions is what numpy computes from the tensors that went in."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore import disk
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.diff import Difference, TensorChange, diff
from modelstore.ops.resolve import resolve
from modelstore.ops.tensordiff import Distance
from modelstore.store import Store, create
from modelstore.values import as_wide
from tests.builders import BITS, Values, gguf_bytes, safetensors_bytes, torch_bytes, values
from tests.models import write_model

LLAMA = ModelName("llama_1b")


def committed(store: Store, files: dict[str, bytes], **options: object) -> None:
    """Commit ``files`` as the next version."""
    directory = store.root.parent / f"in{sum(1 for _ in store.root.parent.iterdir())}"
    for path, data in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    commit(store, directory, LLAMA, CommitOptions(allow_empty=True, **options))  # type: ignore[arg-type]


def compared(store: Store) -> Difference:
    """Return how the newest version differs from the one before."""
    latest = resolve(store, "latest")
    return diff(store, resolve(store, "latest~1"), latest)


def of_tensors(store: Store, old: dict[str, Values], new: dict[str, Values]) -> Difference:
    """Commit two versions of one safetensors file and compare them."""
    committed(store, {"model.safetensors": safetensors_bytes(old)})
    committed(store, {"model.safetensors": safetensors_bytes(new)})
    return compared(store)


def only(found: Difference) -> TensorChange:
    """Return the one tensor that differs."""
    (change,) = found.tensors
    return change


def floats(*numbers: float) -> Values:
    """Return a tensor of float32."""
    return Values("F32", (len(numbers),), np.array(numbers, "<f4").tobytes())


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store for many examples, of which only the newest two versions count."""
    return create(tmp_path_factory.mktemp("shared") / "tuned_models")


NUMBERS = tuple(name for name, bits in BITS.items() if bits % 8 == 0 and name != "C128")


@st.composite
def two_of_each(draw: st.DrawFn) -> dict[str, tuple[Values, Values]]:
    """Two tensors of every dtype, of any bits, often equal ones."""
    drawn = {}
    for dtype in NUMBERS:
        count = draw(st.integers(1, 9))
        size = count * BITS[dtype] // 8
        before = draw(st.binary(min_size=size, max_size=size))
        after = draw(st.just(before) | st.binary(min_size=size, max_size=size))
        drawn[dtype] = (Values(dtype, (count,), before), Values(dtype, (count,), after))
    return drawn


@settings(max_examples=12)
@given(two_of_each())
def test_the_figures_are_those_of_numpy(
    shared_store: Store, drawn: dict[str, tuple[Values, Values]]
) -> None:
    """For every dtype and all bits, NaN and infinity included, the figures are those of numpy."""
    old = {dtype: pair[0] for dtype, pair in drawn.items()}
    new = {dtype: pair[1] for dtype, pair in drawn.items()}
    found = {change.name: change.distance for change in of_tensors(shared_store, old, new).tensors}
    assert set(found) == {dtype for dtype in drawn if old[dtype] != new[dtype]}
    for dtype, apart in found.items():
        assert apart is not None
        assert_apart(apart, old[dtype], new[dtype])


def test_a_signalling_nan_is_no_warning(shared_store: Store) -> None:
    """A complex number whose bits are a signalling NaN is compared like any other NaN."""
    old = {"w": Values("C64", (1,), bytes(8))}
    new = {"w": Values("C64", (1,), bytes.fromhex("000000000000817f"))}
    (change,) = of_tensors(shared_store, old, new).tensors
    assert change.distance is not None


def assert_apart(apart: Distance, old: Values, new: Values) -> None:
    """Check the figures of two tensors that differ."""
    (count,) = old.shape
    width = len(old.data) // count
    starts = range(0, len(old.data), width)
    assert apart.values == count
    assert apart.changed == sum(old.data[i : i + width] != new.data[i : i + width] for i in starts)
    a, b = as_wide(old.data, old.dtype), as_wide(new.data, new.dtype)
    finite = np.isfinite(a) & np.isfinite(b)
    assert apart.not_finite == (np.sum(~np.isfinite(a)), np.sum(~np.isfinite(b)))
    with np.errstate(all="ignore"):
        norm = np.linalg.norm(a[finite])
        difference = np.linalg.norm((b - a)[finite])
        largest = np.abs((b - a)[finite]).max(initial=0)
    if apart.relative_l2 is not None and norm:
        assert apart.relative_l2 == pytest.approx(difference / norm, rel=1e-9)
    if apart.max_abs is not None:
        assert apart.max_abs == pytest.approx(largest, rel=1e-12)


def test_tensors_of_many_blocks_are_compared_block_by_block(store: Store) -> None:
    """Frames with other block sizes, made against each other or not, are compared all the same."""
    random = np.random.default_rng(1)
    old = random.normal(size=50_001).astype("<f4")
    new = old + random.normal(size=50_001).astype("<f4") * np.float32(1e-3)
    store.blobs.block_log2 = 10
    committed(
        store, {"m.safetensors": safetensors_bytes({"w": Values("F32", (50_001,), old.tobytes())})}
    )
    store.blobs.block_log2 = 13
    committed(
        store, {"m.safetensors": safetensors_bytes({"w": Values("F32", (50_001,), new.tobytes())})}
    )
    apart = only(compared(store)).distance
    assert apart is not None
    wide = old.astype("f8"), new.astype("f8")
    assert apart.relative_l2 == pytest.approx(
        np.linalg.norm(wide[1] - wide[0]) / np.linalg.norm(wide[0]), rel=1e-12
    )
    assert apart.max_abs == np.abs(wide[1] - wide[0]).max()
    assert apart.changed == np.count_nonzero(old != new)


def test_tensors_are_added_removed_retyped_and_reshaped(store: Store) -> None:
    """Each kind of change is told apart, with what it was and what it is."""
    old = {
        "gone": floats(1),
        "typed": values("F32", 2),
        "shaped": values("I8", 2, 3),
        "same": floats(2),
    }
    new = {
        "new": floats(1),
        "typed": values("F16", 2),
        "shaped": values("I8", 3, 2),
        "same": floats(2),
    }
    found = of_tensors(store, old, new)
    assert {(c.name, c.change, c.before, c.after) for c in found.tensors} == {
        ("gone", "removed", ("F32", (1,)), None),
        ("new", "added", None, ("F32", (1,))),
        ("typed", "dtype", ("F32", (2,)), ("F16", (2,))),
        ("shaped", "shape", ("I8", (2, 3)), ("I8", (3, 2))),
    }
    assert found.same_tensors == 1


def test_the_most_changed_come_first_and_new_nans_before_all(store: Store) -> None:
    """NaNs and what grew from zero lead, then the largest relative change."""
    old = {"little": floats(1, 1), "much": floats(1, 1), "zero": floats(0, 0), "nan": floats(1, 1)}
    new = {
        "little": floats(1.1, 1),
        "much": floats(2, 2),
        "zero": floats(0, 1),
        "nan": floats(math.nan, math.inf),
    }
    found = of_tensors(store, old, new)
    assert [change.name for change in found.tensors] == ["nan", "zero", "much", "little"]
    by_name = {change.name: change.distance for change in found.tensors}
    assert by_name["nan"].not_finite == (0, 2)  # type: ignore[union-attr]
    assert by_name["zero"].relative_l2 is None  # type: ignore[union-attr]
    assert by_name["zero"].max_abs == 1.0  # type: ignore[union-attr]
    assert by_name["much"].relative_l2 == 1.0  # type: ignore[union-attr]


def test_figures_that_float64_cannot_hold_are_left_out(store: Store) -> None:
    """A norm that overflows is no figure, and no warning."""
    old = Values("F64", (1,), np.array([1e200]).tobytes())
    new = Values("F64", (1,), np.array([-1e200]).tobytes())
    apart = only(of_tensors(store, {"w": old}, {"w": new})).distance
    assert apart is not None
    assert apart.relative_l2 is None
    assert apart.max_abs == 2e200


def test_packed_tensors_tell_only_how_many_bytes_changed(store: Store) -> None:
    """Quantised blocks have no values to compare."""
    old = Values("Q4_0", (2, 32), bytes(36))
    new = Values("Q4_0", (2, 32), bytes(35) + b"\1")
    committed(store, {"m.gguf": gguf_bytes({"w": old})})
    committed(store, {"m.gguf": gguf_bytes({"w": new})})
    apart = only(compared(store)).distance
    assert apart is not None
    assert (apart.values, apart.changed) == (36, 1)
    assert apart.relative_l2 is apart.max_abs is None


def test_the_same_weights_in_another_format_are_equal(store: Store) -> None:
    """A .bin that became safetensors changed its files and none of its tensors."""
    one = {"w": floats(1, 2, 3)}
    committed(store, {"pytorch_model.bin": torch_bytes(one)})
    committed(store, {"model.safetensors": safetensors_bytes(one)})
    found = compared(store)
    assert not found.same_content
    assert {(c.path, c.change) for c in found.files} == {
        ("pytorch_model.bin", "removed"),
        ("model.safetensors", "added"),
    }
    assert found.tensors == ()
    assert found.same_tensors == 1


def test_views_are_compared_by_their_values(store: Store, tmp_path: Path) -> None:
    """Strided and overlapping tensors of torch are compared with what they are elsewhere."""
    torch = pytest.importorskip("torch")
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {"turned": whole.t(), "rows": whole[1:3], "whole": whole}
    torch.save(tensors, tmp_path / "m.bin")
    committed(store, {"m.bin": (tmp_path / "m.bin").read_bytes()})
    changed = {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}
    changed["rows"] = changed["rows"] + 1
    written = {n: Values("F32", a.shape, a.astype("<f4").tobytes()) for n, a in changed.items()}
    committed(store, {"m.safetensors": safetensors_bytes(written)})
    found = compared(store)
    assert [change.name for change in found.tensors] == ["rows"]
    assert found.tensors[0].distance.max_abs == 1.0  # type: ignore[union-attr]
    assert found.same_tensors == 2


def test_tied_tensors_are_compared_once_and_say_so(store: Store, tmp_path: Path) -> None:
    """The second of two names for the same bytes points to the first."""
    torch = pytest.importorskip("torch")
    for step in (0.0, 1.0):
        weight = torch.arange(6.0) + step
        torch.save({"a": weight, "b": weight}, tmp_path / "m.bin")
        committed(store, {"m.bin": (tmp_path / "m.bin").read_bytes()})
    assert [(change.name, change.tied_to) for change in compared(store).tensors] == [
        ("a", ""),
        ("b", "a"),
    ]


def test_equal_tensors_are_never_read(store: Store) -> None:
    """A diff of versions that share a damaged blob does not notice: it has no need of its bytes."""
    same, old, new = floats(*range(100)), floats(1), floats(2)
    committed(store, {"m.safetensors": safetensors_bytes({"same": same, "w": old})})
    committed(store, {"m.safetensors": safetensors_bytes({"same": same, "w": new})})
    resolved = resolve(store, "latest")
    manifest = store.manifest(resolved.model, resolved.entry)
    blob = next(span.blob for _, span, tensor in manifest.tensors() if tensor.name == "same")
    disk.replace(store.blobs.path(blob), b"damaged")
    assert only(compared(store)).name == "w"


def test_files_parameters_metrics_and_cost(store: Store, tmp_path: Path) -> None:
    """Files are told apart by digest; parameters and metrics of both stand side by side."""
    commit(
        store,
        write_model(tmp_path / "a", files={"notes.txt": "old", "vocab.txt": "x"}),
        LLAMA,
        CommitOptions(metrics={"loss": 2.5}, parameters={"epochs": 1, "device": "cpu"}),
    )
    second = commit(
        store,
        write_model(tmp_path / "b", step=1e-3, files={"notes.txt": "newer", "extra.txt": "y"}),
        LLAMA,
        CommitOptions(metrics={"loss": 2.25}, parameters={"epochs": 3}),
    )
    found = compared(store)
    assert [(c.path, c.change, c.before, c.after) for c in found.files if "txt" in c.path] == [
        ("extra.txt", "added", None, 1),
        ("notes.txt", "modified", 3, 5),
        ("vocab.txt", "removed", 1, None),
    ]
    assert found.same_files == 2
    assert found.stored == second.stored
    assert {(p.name, p.before, p.after) for p in found.parameters} == {
        ("device", "cpu", None),
        ("epochs", 1, 3),
    }
    assert [(p.name, p.before, p.after) for p in found.metrics if not p.equal] == [
        ("loss", 2.5, 2.25)
    ]


def test_a_version_equals_itself(store: Store, model_dir: Path) -> None:
    """Nothing differs from itself."""
    commit(store, model_dir, LLAMA, CommitOptions())
    found = diff(store, resolve(store, "ACTIVE"), resolve(store, "ACTIVE"))
    assert found.same_content
    assert (found.files, found.tensors, found.same_files, found.same_tensors) == ((), (), 3, 3)


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("modeling.py", None, "import os", ["modeling.py was added"]),
        ("modeling.py", "import os", "import sys", ["modeling.py was modified"]),
        ("modeling.py", "import os", None, []),
        ("chat_template.jinja", "{{ a }}", "{{ b }}", ["chat_template.jinja was modified"]),
        ("config.json", {"a": 1}, {"a": 2, "auto_map": {}}, ["auto_map in config.json was added"]),
        ("config.json", {"auto_map": 1, "a": 1}, {"auto_map": 1, "a": 2}, []),
        (
            "tokenizer_config.json",
            {"chat_template": "a"},
            {"chat_template": "b"},
            ["chat_template in tokenizer_config.json was modified"],
        ),
        ("config.json", {"a": 1}, "not JSON", []),
        ("config.json", {"a": 1}, ["a list"], []),
    ],
)
def test_changes_of_what_runs_code_are_said(
    store: Store, path: str, old: object, new: object, said: list[str]
) -> None:
    """Code, templates and the keys that name code are pointed out when they were added or changed."""
    for content in (old, new):
        files = {"README": b"x"}
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            files[path] = text.encode()
        committed(store, files)
    found = compared(store).warnings
    assert len(found) == len(said)
    assert all(warning.startswith(words) for warning, words in zip(found, said, strict=True))
