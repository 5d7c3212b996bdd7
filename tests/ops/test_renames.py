"""What a tensor may have been called before: by shape, the end of its name, and its numbers."""

from __future__ import annotations

from modelstore.formats.base import Tensor, View
from modelstore.hashing import digest_of
from modelstore.manifest import BlobSpan, FileEntry, Manifest
from modelstore.ops.renames import Catalogue, Named


def span(name: str, shape: tuple[int, ...] = (8, 4), dtype: str = "BF16", view: bool = False):
    """Return a span of one tensor."""
    tensor = Tensor(name, dtype, shape, View(0, (1, 8)) if view else None)
    return BlobSpan(digest_of(name.encode()), 64, dtype, (tensor,))


def catalogue(*spans: BlobSpan) -> Catalogue:
    """Return the catalogue of a version of one file."""
    size = sum(one.size for one in spans)
    file = FileEntry("m", size, digest_of(b""), "0" * 64, "", "opaque", False, spans)
    return Catalogue(Manifest(files=(file,)))


def wanted(one: BlobSpan) -> Named:
    """Return a new tensor."""
    return Named.of(one.tensors[0], one)


def lookalikes(known: Catalogue, one: BlobSpan, shift: int = 0) -> list[str]:
    """Return the names that a new tensor may have had, each once."""
    found = known.lookalikes(wanted(one), shift)
    return list(dict.fromkeys(named.tensor.name for named in found))


def namesakes(known: Catalogue, one: BlobSpan) -> list[str]:
    """Return the tensors of the same name that fit."""
    return [named.tensor.name for named in known.namesakes(wanted(one))]


def test_namesakes_have_the_same_columns():
    """Rows and kinds of floats may differ; columns, integers and views may not."""
    known = catalogue(span("a"))
    assert namesakes(known, span("a", (99, 4), "F32")) == ["a"]
    assert namesakes(known, span("a", (8, 5))) == []
    assert namesakes(known, span("a", dtype="I16")) == []
    assert namesakes(known, span("a", view=True)) == []
    assert namesakes(known, span("b")) == []


def test_the_longest_common_end_comes_first():
    """A lost prefix leads to the tensor of the same layer, whatever else has this shape."""
    names = [f"model.layers.{n}.{part}.weight" for n in range(30) for part in ("up", "gate")]
    known = catalogue(*map(span, names))
    assert lookalikes(known, span("layers.7.up.weight"))[0] == "model.layers.7.up.weight"
    assert lookalikes(known, span("base.model.layers.7.gate.weight"))[0] == names[15]


def test_neighbours_follow_and_the_last_shift_leads():
    """A layer may come from any nearby, and first of all from where the last one came from."""
    known = catalogue(*(span(f"layers.{n}.up.weight") for n in range(40)))
    new = span("layers.20.up.weight")
    found = lookalikes(known, new)
    assert found[:2] == ["layers.19.up.weight", "layers.21.up.weight"]
    assert "layers.20.up.weight" not in found
    assert lookalikes(known, new, shift=12)[0] == "layers.8.up.weight"


def test_names_without_numbers_and_strange_ones():
    """Any text may be a name: nothing but its end and its numbers are looked at."""
    known = catalogue(*map(span, ("", ".", "é.weight", "9" * 30, "x.weight")))
    assert lookalikes(known, span("weight")) == ["é.weight", "x.weight"]
    assert lookalikes(known, span("")) == ["."]
    assert lookalikes(known, span("other", (3, 3))) == []
