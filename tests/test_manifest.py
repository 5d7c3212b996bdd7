from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.canonical import canonical
from modelstore.curve import CurvePoint
from modelstore.errors import BadNameError, IntegrityError, NewerFormatError, UsageError
from modelstore.formats.base import Tensor, View
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import (
    BlobSpan,
    FileEntry,
    Manifest,
    decode,
    encode,
    from_scalars,
    is_manifest,
    to_scalars,
)
from modelstore.names import collision, parse_path

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
sizes = st.integers(0, 9) | st.integers(0, (1 << 63) - 1)
digests = st.binary(min_size=0, max_size=3).map(digest_of)
scalars = st.dictionaries(text, st.integers(-(1 << 63), (1 << 63) - 1) | text, max_size=3)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A tensor, plain or a view."""
    shape = tuple(draw(st.lists(st.integers(0, 9) | st.integers(0, 1 << 31), max_size=2)))
    view = None
    if draw(st.booleans()):
        strides = draw(st.lists(sizes, min_size=len(shape), max_size=len(shape)))
        view = View(draw(sizes), tuple(strides))
    return Tensor(draw(text), draw(st.sampled_from(["BF16", "F32", "Q4_K"])), shape, view)


spans = st.builds(
    BlobSpan,
    digests,
    st.integers(0, 1 << 40),
    st.sampled_from(["", "BF16"]),
    st.lists(tensors(), max_size=3).map(tuple),
)


@st.composite
def files(draw: st.DrawFn, path: str) -> FileEntry:
    """A file whose spans add up."""
    parts = tuple(draw(st.lists(spans, max_size=3)))
    data = draw(st.binary(max_size=3))
    return FileEntry(
        path=path,
        size=sum(span.size for span in parts),
        blake3=digest_of(data),
        sha256=digest_of(data),
        git_sha1=draw(st.sampled_from(["", "a" * 40])),
        format=draw(st.sampled_from(["torch", "opaque"])),
        executable=draw(st.booleans()),
        spans=parts,
    )


def _apart(paths: list[str]) -> list[str]:
    """Return those of ``paths`` that can be files of one version."""
    kept: list[str] = []
    for path in paths:
        if path not in kept and collision([*kept, path]) is None:
            kept.append(path)
    return sorted(kept)


def _is_path(path: str) -> bool:
    try:
        return bool(parse_path(path))
    except BadNameError:
        return False


segments = st.sampled_from(["a", "B", "é", "中", "model.bin", "token"]) | text.filter(_is_path)
paths = st.lists(segments, min_size=1, max_size=3).map("/".join).filter(_is_path)


@st.composite
def curves(draw: st.DrawFn) -> tuple[CurvePoint, ...]:
    """Steps that rise, each with a loss, an evaluation, or both; or no curve at all."""
    steps = sorted(draw(st.sets(st.integers(0, 1 << 40), max_size=4)))
    losses = st.sampled_from(["2.5", "0", "-1.25", "1e-05", "3e20", "12.000001"])
    both = st.tuples(losses, st.just("") | losses) | st.tuples(st.just(""), losses)
    return tuple(CurvePoint(step, *draw(both)) for step in steps)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Any manifest that a commit could make, and many that it could not."""
    chosen = _apart(draw(st.lists(paths, max_size=3)))
    return Manifest(
        files=tuple(draw(files(path)) for path in chosen),
        parents=tuple(draw(st.lists(digests, max_size=2))),
        message=draw(text),
        author=draw(text),
        created_at=draw(text),
        base_model=draw(text),
        parameters=draw(scalars),
        metrics=draw(scalars),
        data=tuple(draw(st.lists(scalars, max_size=2))),
        environment=draw(scalars),
        curve=draw(curves()),
    )


@given(manifests())
def test_a_manifest_is_read_back(manifest: Manifest) -> None:
    """Views, ties, empty files and any text survive, and the bytes are always the same."""
    data = encode(manifest)
    assert decode(data) == manifest
    assert encode(decode(data)) == data
    assert canonical(json.loads(data)) == data
    assert is_manifest(data)


def _places(tree: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    pairs: Any = ()
    if isinstance(tree, dict):
        pairs = tree.items()
    elif isinstance(tree, list):
        pairs = enumerate(tree)
    for key, value in pairs:
        yield (*at, key)
        yield from _places(value, (*at, key))


JUNK: list[Any] = [
    None, True, -1, 0, 2, 1 << 63, 10**31, 1.5, "", "x", "../x", "a" * 64, [], {}, [[]], [None], [1],
    ["x"], {"a": []}, {"name": "w"}, [{}],
]  # fmt: skip


@given(st.data())
def test_a_mutilated_manifest_is_refused_or_read(data: st.DataObject) -> None:
    """Whatever is taken out, put in or doubled: a manifest that can be written again, or one error."""
    tree = json.loads(encode(_example()))
    for _ in range(data.draw(st.integers(1, 3))):
        *inner, last = data.draw(st.sampled_from(list(_places(tree))))
        node = tree
        for key in inner:
            node = node[key]
        kind = data.draw(st.sampled_from(["junk", "remove", "double"]))
        if kind == "remove":
            del node[last]
        elif kind == "double" and isinstance(node, list):
            node.append(node[last])
        else:
            node[last] = data.draw(st.sampled_from(JUNK))
    try:
        manifest = decode(canonical(tree) if not _has_float(tree) else json.dumps(tree).encode())
    except IntegrityError:
        return
    assert decode(encode(manifest)) == manifest


def _has_float(tree: object) -> bool:
    return "1.5" in json.dumps(tree)


@given(st.binary(max_size=20))
def test_bytes_that_are_no_manifest(data: bytes) -> None:
    """They are an IntegrityError."""
    with pytest.raises(IntegrityError):
        decode(data)


def _tensor_file(path: str, name: str, shape: tuple[int, ...], data: bytes) -> FileEntry:
    span = BlobSpan(digest_of(data), len(data), "U8", (Tensor(name, "U8", shape),))
    return FileEntry(
        path, len(data), digest_of(data), "0" * 64, "1" * 40, "safetensors", False, (span,)
    )


def _example() -> Manifest:
    return Manifest(
        files=(
            FileEntry("README.md", 3, digest_of(b"abc"), "a" * 64, "b" * 40, "opaque", True,
                      (BlobSpan(digest_of(b"abc"), 3),)),
            FileEntry(
                "model.bin", 14, digest_of(b"x"), "c" * 64, "", "torch", False,
                (
                    BlobSpan(digest_of(b"h"), 2),
                    BlobSpan(digest_of(b"w"), 12, "F32", (
                        Tensor("embed", "F32", (3,)),
                        Tensor("head", "F32", (3,)),
                        Tensor("turned", "F32", (1, 3), View(0, (1, 1))),
                    )),
                ),
            ),
            FileEntry("tokenizer.json", 0, digest_of(b""), "d" * 64, "e" * 40, "opaque", False, ()),
        ),
        parents=(digest_of(b"parent"),),
        message="erste Überarbeitung",
        author="A",
        created_at="2026-01-01T00:00:00Z",
        base_model="llama3.2:1b",
        parameters={"epochs": 3, "learning_rate": "2e-05"},
        metrics={"loss": "1.25"},
        data=({"name": "train.jsonl", "size": 5},),
        environment={"torch": "2.10"},
    )  # fmt: skip


def _set(tree: Any, place: list[str | int], value: Any) -> bytes:
    node = tree
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return canonical(tree)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (["files", 0, "size"], 4, "do not add up"),
        (["files", 1, "spans", 0, "size"], 3, "do not add up"),
        (["files", 0, "path"], "z", "not sorted"),
        (["files", 0, "path"], "MODEL.BIN", "cannot be told apart"),
        (["files", 0, "path"], "Model.bin/x", "cannot be told apart"),
        (["files", 0, "path"], "../x", "cannot be a file"),
        (["files", 0, "path"], ".git/config", "cannot be a file"),
        (["files", 0, "sha256"], "<script>", "hex digits"),
        (["files", 0, "git_sha1"], "a" * 41, "hex digits"),
        (["files", 0, "blake3"], "A" * 64, "is not a digest"),
        (["files", 0, "executable"], 2, "neither 0 nor 1"),
        (["files", 0, "size"], True, "is not a size"),
        (["files"], "", "is not a list"),
        (["files"], {}, "is not a list"),
        (["parents"], "", "is not a list"),
        (["training", "parameters"], [], "is not an object"),
        (["training", "parameters"], {"x": 1 << 63}, "64 bits"),
        (["training", "data"], {}, "is not a list"),
        (["files", 1, "spans", 1, "tensors", 0, "shape"], [-1], "is not a size"),
        (["files", 1, "spans", 1, "tensors", 0, "shape"], "12", "is not a list"),
        (["files", 1, "spans", 1, "tensors", 0, "shape"], [1 << 62, 2], "overflows"),
        (["files", 1, "spans", 1, "tensors", 0, "shape"], [1] * 65, "65 dimensions"),
        (["training", "curve"], [], "not a list of points"),
        (["training", "curve"], [[2, "1.5", ""], [2, "1.5", ""]], "does not go on"),
        (["training", "curve"], [[1, "", ""]], "says nothing"),
        (["training", "curve"], [[1, "nan", ""]], "not a decimal"),
        (["training", "curve"], [[1, "1.5", "\u0661"]], "not a decimal"),
        (["training", "curve"], [[1, "1.5"]], "not a point"),
        (["training", "curve"], [[1, 2, ""]], "not a decimal"),
        (["training", "curve"], [[-1, "1.5", ""]], "not a number of steps"),
        (["schema"], "other/1", "is not a manifest"),
        (["schema"], None, "is not a manifest"),
    ],
)
def test_a_manifest_that_breaks_a_rule(place: list[str | int], value: Any, said: str) -> None:
    """Each rule has its own sentence."""
    with pytest.raises(IntegrityError, match=said):
        decode(_set(json.loads(encode(_example())), place, value))


def test_a_version_without_a_curve_has_the_id_that_it_always_had() -> None:
    """The key is there only with points, so that manifests written before there were any stay."""
    assert b"curve" not in encode(_example())
    assert digest_of(encode(_example())) == (
        "9b68fae1981dcb18af4800efdb57b863b9afac5357f4eac4c02eb4d90ef02fe7"
    )
    with_curve = replace(_example(), curve=(CurvePoint(0, "", "3.5"), CurvePoint(8, "2.25")))
    assert json.loads(encode(with_curve))["training"]["curve"] == [[0, "", "3.5"], [8, "2.25", ""]]
    assert decode(encode(with_curve)) == with_curve


def test_a_float_is_no_scalar() -> None:
    """It is refused both ways: the same float may be spelt in several ways."""
    tree = json.loads(encode(_example()))
    tree["training"]["metrics"] = {"loss": 1.5}
    with pytest.raises(IntegrityError, match="neither an integer"):
        decode(json.dumps(tree).encode())
    with pytest.raises(TypeError, match="neither an integer"):
        encode(replace(_example(), metrics={"loss": 1.5}))  # type: ignore[dict-item]


def test_a_newer_schema_is_said_to_be_newer() -> None:
    """The hint is to upgrade, not to repair."""
    data = _set(json.loads(encode(_example())), ["schema"], "mstore/manifest/2")
    with pytest.raises(NewerFormatError, match="manifest/2") as caught:
        decode(data, "manifest of m@v1.0")
    assert caught.value.exit_code == 13
    assert caught.value.hint == "pip install -U mstore"


def test_a_message_that_is_not_utf8_is_a_usage_error() -> None:
    """The shell hands over such bytes as half surrogate pairs."""
    with pytest.raises(UsageError):
        encode(replace(_example(), message="\udce9"))


def test_a_manifest_is_known_by_its_beginning_however_long_it_ends() -> None:
    """The training block comes last and may be long."""
    environment = {f"package{n}": "1.0" for n in range(2000)}
    assert is_manifest(encode(replace(_example(), environment=environment)))
    assert not is_manifest(b'{"author":"x"}')


def test_scalars_carry_what_training_measures() -> None:
    """Floats travel as strings and come back; what JSON has no number for stays a string."""
    values = {"lr": 2e-5, "epochs": 3, "ok": True, "none": None, "inf": float("-inf"), "s": "x"}
    held = to_scalars(values)
    assert held == {"lr": "2e-05", "epochs": 3, "ok": "true", "inf": "-inf", "s": "x"}
    assert from_scalars(held) == {"lr": 2e-5, "epochs": 3, "ok": "true", "inf": "-inf", "s": "x"}
    assert from_scalars({"x": "1e999", "y": "", "z": "-"}) == {"x": "1e999", "y": "", "z": "-"}


@given(st.dictionaries(text, st.integers() | st.floats() | st.booleans() | text, max_size=4))
def test_whatever_training_reports_can_be_committed(values: dict[str, Any]) -> None:
    """Numbers of any size, infinities and any text make a manifest that is read back."""
    manifest = Manifest((), metrics=to_scalars({**values, "huge": 10**5000}))
    assert decode(encode(manifest)) == manifest
    json.dumps(from_scalars(manifest.metrics), allow_nan=False)


def test_fingerprints_tell_what_differs() -> None:
    """Names and shapes, tensors, and tokenizer each have their own."""
    one = Manifest((_tensor_file("m.bin", "w", (4,), b"abcd"),))
    other = Manifest((_tensor_file("m.bin", "w", (4,), b"abce"),))
    shape = Manifest((_tensor_file("m.bin", "w", (2, 2), b"abcd"),))
    moved = Manifest((_tensor_file("n.safetensors", "w", (4,), b"abcd"),))
    assert one.schema_fingerprint == other.schema_fingerprint != shape.schema_fingerprint
    assert one.weights_fingerprint == moved.weights_fingerprint != other.weights_fingerprint
    token = replace(_example(), files=_example().files[:2])
    assert token.tokenizer_fingerprint != _example().tokenizer_fingerprint


def test_what_a_manifest_counts() -> None:
    """Sizes, blobs, tied names and parameters; tied tensors and views count once."""
    manifest = _example()
    assert manifest.size == 17
    assert manifest.tied == {"head": "embed"}
    assert len(manifest.blobs()) == 3
    assert [tensor.name for _, _, tensor in manifest.tensors()] == ["embed", "head", "turned"]
    assert manifest.file("README.md") is manifest.files[0]
    assert manifest.file("readme.md") is None
    twice = Manifest(tuple(_tensor_file(p, "w", (2, 2), b"abcd") for p in ("a", "b")))
    assert twice.parameter_count == 4
    assert twice.content() == (
        ("a", Digest(digest_of(b"abcd")), False),
        ("b", Digest(digest_of(b"abcd")), False),
    )


def test_a_manifest_that_could_not_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much for a reader is an error of the commit, before there is a version."""
    monkeypatch.setattr("modelstore.canonical.MAX_VALUES", 10)
    with pytest.raises(UsageError, match="more than 10 values"):
        encode(Manifest(()))
