from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelstore.errors import AmbiguousError, BadNameError, NotFoundError
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName, parse_model
from modelstore.ops.resolve import NOWHERE, Context, default_model, resolve, resolve_model
from modelstore.state import Change
from modelstore.store import Store, create

ONE = parse_model("llama_1b")
EIGHT = parse_model("llama_8b")
EMPTY = parse_model("empty")


def digest(name: str) -> Digest:
    """Return the id of a made-up manifest; those of twins begin alike."""
    if name.startswith("twin"):
        return Digest("abcdef" + digest_of(name.encode())[6:])
    return digest_of(name.encode())


def change(
    store: Store, model: ModelName, change: Change | str, *parents: str, **values: Any
) -> None:
    """Make a change, or add a version of this name with these parents."""
    if isinstance(change, Change):
        store.change(model, lambda _: change)
        return
    ids = [str(digest(f"{model}@{parent}")) for parent in parents]

    def decide(state: Any) -> Change:
        values.setdefault("id", str(digest(f"{model}@{change}")))
        entry = {"seq": state.seq + 1, "parents": ids, **values}
        first = change if not state.document["versions"] else None
        return Change("commit", {change: entry}, active=first)

    store.change(model, decide)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two lines and an empty one.

    llama_1b: v1.0 - v1.1 - v1.2 (merge of v1.1 and v1.0), v2.0-rc.1 from v1.0, then v1.3 from v1.2;
    ACTIVE was v1.0, v1.2, v1.0 and is v1.2. llama_8b: v1.0, v3.0 of another line's parent.
    """
    store = create(tmp_path / "tuned_models")
    change(store, EMPTY, Change("init"))
    change(store, ONE, "v1.0")
    change(store, ONE, "v1.1", "v1.0")
    change(store, ONE, "v1.2", "v1.1", "v1.0")
    change(store, ONE, "v2.0-rc.1", "v1.0")
    change(store, ONE, "v1.3", "v1.2")
    for version in ("v1.2", "v1.0", "v1.2"):
        change(store, ONE, Change("set-active", active=version))
    change(store, ONE, Change("alias", values={"aliases": {"prod": "v1.1", "old": "v0.9"}}))
    change(store, EIGHT, "v1.0")
    change(store, EIGHT, "v3.0", "elsewhere")
    return store


@pytest.mark.parametrize(
    ("ref", "version"),
    [
        ("ACTIVE", "v1.2"),
        ("active", "v1.2"),
        ("HEAD", "v1.2"),
        ("latest", "v1.3"),
        ("greatest", "v1.3"),
        ("v1.1", "v1.1"),
        ("1.1", "v1.1"),
        ("v1.1.0", "v1.1"),
        ("v2.0-rc.1", "v2.0-rc.1"),
        ("prod", "v1.1"),
        ("prod~1", "v1.0"),
        ("~", "v1.1"),
        ("ACTIVE~1", "v1.1"),
        ("ACTIVE~2", "v1.0"),
        ("ACTIVE~0", "v1.2"),
        ("ACTIVE^2", "v1.0"),
        ("ACTIVE^1", "v1.1"),
        ("ACTIVE^", "v1.1"),
        ("ACTIVE^0", "v1.2"),
        ("latest~1^2", "v1.0"),
        ("ACTIVE@{0}", "v1.2"),
        ("ACTIVE@{1}", "v1.0"),
        ("ACTIVE@{2}", "v1.2"),
        ("ACTIVE@{3}", "v1.0"),
        ("@{2}~1", "v1.1"),
        ("-", "v1.0"),
    ],
)
def test_every_form_of_a_ref(store: Store, ref: str, version: str) -> None:
    """Bare with a model in the context, and with the model in front of it."""
    for text, context in ((ref, Context(ONE)), (f"llama_1b@{ref}", Context(EIGHT))):
        resolved = resolve(store, text, context)
        assert str(resolved) == f"llama_1b@{version}"
        assert resolved.id == digest(f"llama_1b@{version}")


def test_the_parent_of_active_is_not_what_active_was(store: Store) -> None:
    """One is ancestry, the other the log of the pointer."""
    assert str(resolve(store, "llama_1b@ACTIVE~1")) == "llama_1b@v1.1"
    assert str(resolve(store, "llama_1b@ACTIVE@{1}")) == "llama_1b@v1.0"


@pytest.mark.parametrize("digits", [6, 12, 64])
def test_a_digest_prefix_needs_no_model(store: Store, digits: int) -> None:
    """Only one model has it."""
    full = digest("llama_1b@v1.1")
    for prefix in (full[:digits], f"b3:{full[:digits]}"):
        assert str(resolve(store, prefix)) == "llama_1b@v1.1"


def test_an_ambiguous_prefix_lists_what_it_fits(store: Store) -> None:
    """More digits settle it; the same manifest under two numbers is no ambiguity."""
    change(store, ONE, "v1.4", id=str(digest("twin1")))
    change(store, ONE, "v1.5", id=str(digest("twin2")))
    with pytest.raises(AmbiguousError, match=r"v1\.4 \(abcdef.*v1\.5 \(abcdef") as caught:
        resolve(store, "llama_1b@abcdef")
    assert caught.value.hint == "give more digits"
    assert caught.value.exit_code == 4
    assert str(resolve(store, digest("twin1")[:20])) == "llama_1b@v1.4"
    change(store, ONE, "v1.6", id=str(digest("twin1")))
    assert str(resolve(store, digest("twin1")[:20])) == "llama_1b@v1.6"


# --- which model


def test_m_beats_the_directory_and_the_default(store: Store) -> None:
    """-M, then the directory, then the default."""
    store.configure({"default_model": "llama_8b"})
    inside = store.root / "llama_8b/v1.0"
    inside.mkdir(parents=True)
    assert resolve(store, "v1.0", Context(ONE, inside)).model == ONE
    assert resolve(store, "v1.0", Context(None, inside)).model == EIGHT
    assert resolve(store, "v1.0", Context(None, store.root)).model == EIGHT
    store.configure({"default_model": "llama_1b"})
    assert resolve(store, "v1.0", Context(None, inside)).model == EIGHT
    assert resolve(store, "v1.0").model == ONE


def test_m_decides_even_if_only_another_model_has_it(store: Store) -> None:
    """What was said is not second-guessed."""
    with pytest.raises(NotFoundError, match=r"llama_1b has no version 'v3\.0'") as caught:
        resolve(store, "v3.0", Context(ONE))
    assert caught.value.hint == "run: mstore log llama_1b"


def test_the_only_model_that_has_it_beats_the_default(store: Store) -> None:
    """The default only settles what is ambiguous."""
    store.configure({"default_model": "llama_8b"})
    assert str(resolve(store, "v1.3")) == "llama_1b@v1.3"
    assert str(resolve(store, "prod")) == "llama_1b@v1.1"
    store.configure({"default_model": "llama_1b"})
    assert str(resolve(store, "v3.0")) == "llama_8b@v3.0"


def test_the_model_last_committed_to_is_the_second_default(store: Store) -> None:
    """`mstore use` comes first; a model that has gone is no default."""
    store.configure({"last_model": "llama_8b"})
    assert default_model(store) == EIGHT
    assert resolve(store, "v1.0").model == EIGHT
    store.configure({"default_model": "llama_1b"})
    assert default_model(store) == ONE
    store.configure({"default_model": "gone"})
    assert default_model(store) == EIGHT


def test_an_ambiguous_ref_lists_the_candidates(store: Store) -> None:
    """With the hint that settles it; lines without versions are none of them."""
    with pytest.raises(AmbiguousError, match=r"llama_1b@v1\.0, llama_8b@v1\.0") as caught:
        resolve(store, "v1.0")
    assert "empty" not in str(caught.value)
    assert "mstore use" in caught.value.hint
    assert caught.value.exit_code == 4


def test_a_line_without_versions_never_makes_a_ref_ambiguous(tmp_path: Path) -> None:
    """A fresh store has two lines, and the first commit goes to one of them."""
    store = create(tmp_path)
    for model in (ONE, EIGHT):
        change(store, model, Change("init"))
    with pytest.raises(NotFoundError, match="no versions yet") as caught:
        resolve_model(store)
    assert "mstore commit" in caught.value.hint
    change(store, EIGHT, "v1.0")
    assert str(resolve(store, "ACTIVE")) == "llama_8b@v1.0"
    assert resolve_model(store) == EIGHT


def test_the_name_of_a_model_is_its_active_version(store: Store) -> None:
    """As it stands, whatever the context."""
    assert str(resolve(store, "llama_8b", Context(ONE))) == "llama_8b@v1.0"
    assert str(resolve(store, "llama_1b@")) == "llama_1b@v1.2"


def test_resolve_model(store: Store) -> None:
    """-M, directory, default, else error 4 that lists the lines with versions."""
    assert resolve_model(store, Context(EIGHT)) == EIGHT
    assert resolve_model(store, Context(None, store.root / "llama_8b")) == EIGHT
    with pytest.raises(AmbiguousError, match="llama_1b, llama_8b") as caught:
        resolve_model(store, NOWHERE)
    assert caught.value.hint.startswith("say -M llama_1b")
    store.configure({"default_model": "llama_8b"})
    assert resolve_model(store) == EIGHT
    with pytest.raises(NotFoundError, match="there is no model 'none'"):
        resolve_model(store, Context(parse_model("none")))


# --- what is not there


@pytest.mark.parametrize(
    ("ref", "said", "hint"),
    [
        ("v9.0", "has no version 'v9.0'", "mstore log llama_1b"),
        ("stage", "has no version, alias or digest 'stage'", "mstore log"),
        ("old", "has no version, alias or digest 'old'", "mstore log"),
        ("000000", "has no version, alias or digest", "mstore log"),
        ("abc", "has no version, alias or digest", "mstore log"),
        ("v1.0~1", "there is no llama_1b@v1.0~1: llama_1b@v1.0 has no parent", "log --graph"),
        ("v1.1~5", "there is no llama_1b@v1.1~5: llama_1b@v1.0 has no parent", "log --graph"),
        ("v1.1^2", "llama_1b@v1.1 has no second parent", ""),
        ("v1.1^3", "llama_1b@v1.1 has no parent 3", ""),
        ("ACTIVE~999999999", "has no parent", ""),
        ("ACTIVE@{4}", "no ACTIVE@{4} of llama_1b: ACTIVE moved only 3 times", "active llama_1b"),
        ("prod@{1}", "only ACTIVE has", ""),
        ("v1.0@{1}", "only ACTIVE has", ""),
        ("ACTIVE~1@{1}", "only a pointer has a history", ""),
    ],
)
def test_what_a_model_does_not_have(store: Store, ref: str, said: str, hint: str) -> None:
    """Error 4, one sentence that names it, and where to look."""
    with pytest.raises(NotFoundError) as caught:
        resolve(store, ref, Context(ONE))
    assert said in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.exit_code == 4


def test_what_no_model_has(store: Store) -> None:
    """Without a model in the context all are looked at."""
    with pytest.raises(NotFoundError, match=r"no model has a version 'v9\.9'"):
        resolve(store, "v9.9")


def test_a_parent_in_another_line(store: Store) -> None:
    """It exists, but `~1` stays within the line; the hint shows where it is named."""
    with pytest.raises(NotFoundError, match="is not a version of llama_8b") as caught:
        resolve(store, "llama_8b@v3.0~1")
    assert caught.value.hint == "run: mstore show llama_8b@v3.0"


def test_models_that_are_not_there(store: Store) -> None:
    """The known ones are listed; one of another tool is to be adopted."""
    with pytest.raises(NotFoundError, match=r"there is no model 'none' \(there is: empty, llama"):
        resolve(store, "none@v1.0")
    (store.root / "theirs").mkdir()
    (store.root / "theirs/model_registry.json").write_text("{}")
    with pytest.raises(NotFoundError, match="was not made by mstore") as caught:
        resolve(store, "theirs@v1.0")
    assert "mstore adopt" in caught.value.hint


@pytest.mark.parametrize("ref", ["ACTIVE", "latest", "greatest", "-", "v1.0"])
def test_a_line_without_versions(store: Store, ref: str) -> None:
    """There is nothing to name in it."""
    with pytest.raises(NotFoundError) as caught:
        resolve(store, f"empty@{ref}")
    assert caught.value.exit_code == 4
    assert caught.value.hint


def test_a_line_that_has_versions_and_no_active_one(store: Store) -> None:
    """As an adopted one may; the hint sets it."""
    change(store, EMPTY, Change("adopt", {"v1.0": {"seq": 1}}))
    with pytest.raises(NotFoundError, match="has no ACTIVE version") as caught:
        resolve(store, "empty@ACTIVE")
    assert caught.value.hint == "mstore set-active empty@latest"
    assert resolve(store, "empty@v1.0").id is None


def test_what_active_was_may_be_removed(store: Store) -> None:
    """The log remembers the number."""
    change(store, ONE, Change("rm", {"v1.0": None}))
    with pytest.raises(NotFoundError, match=r"was v1\.0, which was removed"):
        resolve(store, "llama_1b@-")


def test_pre_releases_are_the_greatest_only_among_themselves(store: Store) -> None:
    """`greatest` goes by number, `latest` by the order they came."""
    change(store, EMPTY, "v2.0-rc.2")
    change(store, EMPTY, "v2.0-rc.1")
    assert str(resolve(store, "empty@greatest")) == "empty@v2.0-rc.2"
    assert str(resolve(store, "empty@latest")) == "empty@v2.0-rc.1"


@pytest.mark.parametrize("ref", ["", "a@b@c", "../x", "v1.0\x1b[2J", "ACTIVE~x", "@v1.0"])
def test_what_is_no_ref_is_a_usage_error(store: Store, ref: str) -> None:
    """Exit code 2, before anything is looked up."""
    with pytest.raises(BadNameError) as caught:
        resolve(store, ref)
    assert caught.value.exit_code == 2
