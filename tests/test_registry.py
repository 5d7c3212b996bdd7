from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore import registry as module
from modelstore.errors import ConflictError, IntegrityError, NotFoundError
from modelstore.hashing import digest_of
from modelstore.names import parse_model
from modelstore.registry import JOURNAL, VIEW, Registry
from modelstore.state import Change, State
from tests.crashes import crashes

AT = "2026-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def _small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole states are written every 4 changes, so that tests see several."""
    monkeypatch.setattr(module, "COMPACT_EVERY", 4)


def open_registry(root: Path) -> Registry:
    """Return the registry below ``root``, as a store would open it."""
    return Registry(parse_model("m"), root / "m", root / ".mstore/refs/m", root / ".mstore/adopted")


def add(number: int, **values: Any) -> Callable[[State], Change]:
    """Return what decides to add version ``v1.<number>`` and makes it ACTIVE."""
    entry = {"id": digest_of(b"%d" % number), "seq": number + 1, **values}
    return lambda _: Change("commit", {f"v1.{number}": entry}, active=f"v1.{number}")


def grown(root: Path, count: int) -> Registry:
    """Return a registry after ``count`` changes."""
    registry = open_registry(root)
    for number in range(count):
        registry.change(add(number), AT)
    return registry


def check_whole(registry: Registry) -> None:
    """Assert that view, records and journal agree, and that the journal is a chain from the start."""
    state = registry.state()
    assert state.notice == ""
    rows = (registry.directory / JOURNAL).read_bytes().splitlines(keepends=True)
    assert [json.loads(row)["seq"] for row in rows] == list(range(1, state.seq + 1))
    for before, row in itertools.pairwise(rows):
        assert json.loads(row)["prev"] == digest_of(before)
    assert digest_of(rows[-1]) == state.head
    assert [record["seq"] for record in registry.journal()] == list(range(1, state.seq + 1))
    view = (registry.directory / VIEW).read_bytes()
    (registry.directory / VIEW).unlink()
    assert registry.state().document == state.document
    (registry.directory / VIEW).write_bytes(view)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 13])
def test_changes_are_numbered_and_chained(tmp_path: Path, count: int) -> None:
    """Before, at and after every compaction; the state is what the changes say."""
    registry = grown(tmp_path, count)
    check_whole(registry)
    state = registry.state()
    assert state.seq == count
    assert [str(v) for v in state.versions()] == [f"v1.{n}" for n in range(count)]
    assert [move["version"] for move in state.history] == [f"v1.{n}" for n in range(count)]


def test_change_returns_what_is_read_again(tmp_path: Path) -> None:
    """By the same registry and by a fresh one."""
    registry = open_registry(tmp_path)
    after = registry.change(add(0, theirs={"x": [1.5, None]}), AT)
    assert open_registry(tmp_path).state() == registry.state() == after


def test_a_decision_that_raises_changes_nothing(tmp_path: Path) -> None:
    """Not a byte."""
    registry = grown(tmp_path, 2)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def refuse(_: State) -> Change:
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        registry.change(refuse, AT)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_unknown_keys_survive_every_change(tmp_path: Path) -> None:
    """Of the registry and of a version, through compactions and rebuilding."""
    registry = open_registry(tmp_path)
    registry.change(lambda _: Change("adopt", {"v0.1": {"theirs": {"a": [1]}}}, {"odd": "é"}), AT)
    for number in range(9):
        registry.change(add(number), AT)
    (registry.directory / VIEW).unlink()
    state = registry.state()
    assert state.document["odd"] == "é"
    entry = state.entry("v0.1")
    assert entry is not None
    assert entry.values == {"theirs": {"a": [1]}}


# --- compaction


def test_compaction_keeps_one_round_of_records_and_its_base(tmp_path: Path) -> None:
    """refs/ stays small, and the newest whole state can be lost without losing anything."""
    registry = grown(tmp_path, 14)
    refs = tmp_path / ".mstore/refs/m"
    assert sorted(path.name for path in refs.iterdir()) == [
        *(f"{n:010d}.json" for n in range(9, 15)),
        "base-0000000008.json",
        "base-0000000012.json",
    ]
    expected = registry.state().document
    (registry.directory / VIEW).unlink()
    (refs / "base-0000000012.json").write_bytes(b"damaged")
    assert registry.state().document == expected


def test_an_older_view_from_before_the_kept_records_is_not_obeyed(tmp_path: Path) -> None:
    """The state is the newest one; the next change writes the view again and keeps the old one."""
    registry = grown(tmp_path, 1)
    old = (registry.directory / VIEW).read_bytes()
    for number in range(1, 12):
        registry.change(add(number), AT)
    expected = registry.state().document
    (registry.directory / VIEW).write_bytes(old)
    assert registry.state().document == expected
    assert "older copy" in registry.state().notice
    registry.change(add(12), AT)
    check_whole(registry)
    assert [p.read_bytes() for p in (tmp_path / ".mstore/adopted").iterdir()] == [old]


# --- the view is not the authority


EDITS: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda view: None,
    "emptied": lambda view: b"",
    "cut": lambda view: view[: len(view) // 2],
    "edited": lambda view: view.replace(b'"v1.5"', b'"v1.1"', 1),
    "reformatted": lambda view: json.dumps(json.loads(view), indent=2).encode(),
    "binary": lambda view: bytes(range(256)),
    "another tool's": lambda view: b'{"model_type": "m", "versions": {}}',
    "a merge conflict": lambda view: b"<<<<<<< ours\n" + view + b">>>>>>> theirs\n",
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_view_is_noticed_never_obeyed_and_kept(tmp_path: Path, edit: str) -> None:
    """The state comes from the records; the next change writes the view again."""
    registry = grown(tmp_path, 6)
    expected = registry.state().document
    path = registry.directory / VIEW
    edited = EDITS[edit](path.read_bytes())
    path.unlink()
    if edited is not None:
        path.write_bytes(edited)
    assert registry.exists()
    assert not registry.is_foreign()
    assert registry.state().document == expected
    assert str(path) in registry.state().notice
    registry.change(add(6), AT)
    check_whole(registry)
    adopted = tmp_path / ".mstore/adopted"
    kept = [p.read_bytes() for p in adopted.iterdir()] if adopted.exists() else []
    assert kept == ([] if edited is None else [edited])


def test_an_older_copy_of_the_view_is_brought_up(tmp_path: Path) -> None:
    """As after `git checkout`: the records that follow it are applied."""
    registry = grown(tmp_path, 5)
    old = (registry.directory / VIEW).read_bytes()
    registry.change(add(5), AT)
    expected = registry.state().document
    assert registry.state().notice == ""
    (registry.directory / VIEW).write_bytes(old)
    assert registry.state().document == expected
    assert "older than the records" in registry.state().notice
    assert "older than the records" in registry.change(add(6), AT).notice
    check_whole(registry)


def test_a_view_that_a_crash_left_behind_brings_no_notice(tmp_path: Path) -> None:
    """It is older than the record that it lacks: nobody put it there."""
    registry = grown(tmp_path, 2)
    old, then = (registry.directory / VIEW).read_bytes(), (registry.directory / VIEW).stat()
    registry.change(add(2), AT)
    (registry.directory / VIEW).write_bytes(old)
    os.utime(registry.directory / VIEW, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert registry.state().seq == 3
    assert registry.state().notice == ""


def test_edited_views_are_found_newest_first(tmp_path: Path) -> None:
    """The one in place, then those that changes replaced; not those of mstore, or of other models."""
    registry = grown(tmp_path, 2)
    views = []
    for number in range(3):
        views.insert(0, (registry.directory / VIEW).read_bytes() + b" " * (number + 1))
        (registry.directory / VIEW).write_bytes(views[0])
        if number < 2:
            assert "mstore adopt" in registry.change(add(2 + number), AT).notice
    (tmp_path / ".mstore/adopted/m-x-0123456789abcdef.json").write_bytes(b"another model's")
    assert registry.edited_views() == views


def test_an_intact_view_of_another_history_is_kept(tmp_path: Path) -> None:
    """As after pulling a colleague's: it is not obeyed, and not lost."""
    registry = grown(tmp_path / "a", 3)
    other = grown(tmp_path / "b", 1)
    other.change(add(7), AT)
    foreign = (other.directory / VIEW).read_bytes()
    expected = registry.state().document
    (registry.directory / VIEW).write_bytes(foreign)
    assert registry.state().document == expected
    assert registry.state().notice
    registry.change(add(3), AT)
    check_whole(registry)
    assert [p.read_bytes() for p in (tmp_path / "a/.mstore/adopted").iterdir()] == [foreign]


def test_a_registry_of_another_tool_is_not_touched(tmp_path: Path) -> None:
    """Reading and changing are refused with the hint to adopt it; adopting keeps its bytes."""
    registry = open_registry(tmp_path)
    registry.directory.mkdir()
    theirs = b'{"model_type": "m", "versions": {"v1.0": {}}}'
    (registry.directory / VIEW).write_bytes(theirs)
    assert registry.is_foreign()
    assert not registry.exists()
    with pytest.raises(NotFoundError, match="was not made by mstore") as caught:
        registry.state()
    assert "mstore adopt" in caught.value.hint
    with pytest.raises(ConflictError, match="was not made by mstore") as conflict:
        registry.change(lambda _: pytest.fail("was asked to decide"), AT)
    assert "mstore adopt" in conflict.value.hint
    assert (registry.directory / VIEW).read_bytes() == theirs
    registry.change(lambda _: Change("adopt", {"v1.0": {}}), AT, adopting=True)
    assert [p.read_bytes() for p in (tmp_path / ".mstore/adopted").iterdir()] == [theirs]
    assert registry.state().seq == 1


def test_no_registry_at_all(tmp_path: Path) -> None:
    """There is no such model."""
    registry = open_registry(tmp_path)
    assert not registry.exists()
    assert not registry.is_foreign()
    assert registry.journal() == []
    with pytest.raises(NotFoundError, match="there is no model 'm'"):
        registry.state()
    (tmp_path / "m").write_bytes(b"a file")
    with pytest.raises(NotFoundError):
        registry.state()


# --- without .mstore, as a Git clone of the small files comes


@pytest.mark.parametrize("count", [1, 4, 6])
def test_a_clone_of_the_small_files_works_and_the_first_change_writes_a_base(
    tmp_path: Path, count: int
) -> None:
    """The view is all there is; numbers and the chain go on."""
    registry = grown(tmp_path, count)
    expected = registry.state()
    shutil.rmtree(tmp_path / ".mstore")
    cloned = registry.state()
    assert registry.exists()
    assert cloned.document == expected.document
    assert "mstore pull" in cloned.notice
    registry.change(add(count), AT)
    assert (tmp_path / f".mstore/refs/m/base-{count:010d}.json").exists()
    check_whole(registry)
    for number in range(count + 1, count + 9):
        registry.change(add(number), AT)
    check_whole(registry)


def test_a_clone_with_a_damaged_view_is_read_from_its_journal(tmp_path: Path) -> None:
    """The journal has every change from the first on, and the chain says that they are all."""
    registry = grown(tmp_path, 6)
    expected = registry.state().document
    shutil.rmtree(tmp_path / ".mstore")
    for view in (None, b"", registry.view()[:100]):  # type: ignore[index]
        path = registry.directory / VIEW
        path.unlink() if view is None else path.write_bytes(view)
        assert registry.exists()
        assert registry.state().document == expected
        assert "journal" in registry.state().notice
        path.touch()
    registry.change(add(6), AT)
    assert registry.state().seq == 7
    check_whole(registry)


def test_a_clone_with_a_damaged_view_and_journal_is_an_integrity_error(tmp_path: Path) -> None:
    """Nothing else says what the state is, so nothing is guessed."""
    registry = grown(tmp_path, 2)
    shutil.rmtree(tmp_path / ".mstore")
    journal = registry.directory / JOURNAL
    journal.write_bytes(journal.read_bytes()[10:])
    path = registry.directory / VIEW
    path.write_bytes(path.read_bytes().replace(b'"v1.1"', b'"v1.0"', 1))
    with pytest.raises(IntegrityError, match="is damaged"):
        registry.state()
    with pytest.raises(IntegrityError):
        registry.change(add(2), AT)


# --- damage


def test_a_flipped_bit_in_the_last_record_is_not_obeyed(tmp_path: Path) -> None:
    """Not even where it still is JSON and follows the one before it; without a copy it is fatal."""
    registry = grown(tmp_path, 2)
    record = tmp_path / ".mstore/refs/m/0000000002.json"
    record.write_bytes(record.read_bytes().replace(b"commit", b"commix"))
    (registry.directory / VIEW).unlink()
    (registry.directory / JOURNAL).unlink()
    with pytest.raises(IntegrityError, match="record 2 of m is damaged") as caught:
        registry.state()
    assert "fsck --repair" in caught.value.hint


TEARS: dict[str, Callable[[bytes, bytes], bytes | None]] = {
    "missing": lambda data, before: None,
    "empty": lambda data, before: b"",
    "half": lambda data, before: data[: len(data) // 2],
    "zeros": lambda data, before: bytes(len(data)),
    "wrong checksum": lambda data, before: data.replace(b"commit", b"commix"),
    "the one before": lambda data, before: before,
    "of a newer schema, torn": lambda data, before: data.replace(b"record/1", b"record/7"),
}


@pytest.mark.parametrize("tear", TEARS)
@pytest.mark.parametrize("seq", [1, 4, 5, 6])
@pytest.mark.parametrize("view", ["there", "missing"])
def test_a_record_that_cannot_be_read_is_read_from_the_journal(
    tmp_path: Path, tear: str, seq: int, view: str
) -> None:
    """Whichever it is, with the view or without; the next change works, and nothing is lost."""
    registry = grown(tmp_path, 6)
    expected = registry.state().document
    refs = tmp_path / ".mstore/refs/m"
    record = refs / f"{seq:010d}.json"
    before = refs / f"{seq - 1:010d}.json"
    torn = TEARS[tear](record.read_bytes(), before.read_bytes() if before.exists() else b"{}")
    record.unlink()
    if torn is not None:
        record.write_bytes(torn)
    for base in refs.glob("base-*.json"):
        base.unlink()
    if view == "missing":
        (registry.directory / VIEW).unlink()
    assert registry.state().document == expected
    if seq == 6 or view == "missing":
        assert registry.state().notice
    registry.change(add(6), AT)
    assert [str(v) for v in registry.state().versions()] == [f"v1.{n}" for n in range(7)]
    assert registry.state().seq == 7


@settings(max_examples=25)
@given(
    damaged=st.sets(st.integers(1, 9)),
    lost=st.sets(st.integers(1, 9)),
    bases=st.booleans(),
    view=st.sampled_from([None, b"", b"{}"]) | st.integers(0, 9),
)
def test_with_a_whole_journal_no_damage_to_the_records_matters(
    damaged: set[int], lost: set[int], bases: bool, view: bytes | int | None
) -> None:
    """Whichever records are damaged or lost, and whatever stands in the view's place."""
    with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COMPACT_EVERY", 4)
        registry = open_registry(Path(place))
        views: list[bytes | None] = [None]
        for number in range(9):
            registry.change(add(number), AT)
            views.append(registry.view())
        expected = registry.state().document
        refs = Path(place, ".mstore/refs/m")
        for path in refs.iterdir():
            if path.name.startswith("base-"):
                if bases:
                    path.unlink()
            elif int(path.stem) in lost:
                path.unlink()
            elif int(path.stem) in damaged:
                path.write_bytes(path.read_bytes()[:-9])
        (registry.directory / VIEW).unlink()
        old = views[view] if isinstance(view, int) else view
        if old is not None:
            (registry.directory / VIEW).write_bytes(old)
        assert registry.state().document == expected


def test_a_damaged_newest_record_without_a_journal_is_told_by_the_view(tmp_path: Path) -> None:
    """Nothing else can be meant: the record is there, and the view names its number."""
    registry = grown(tmp_path, 3)
    expected = registry.state().document
    (tmp_path / ".mstore/refs/m/0000000003.json").write_bytes(b"")
    (registry.directory / JOURNAL).unlink()
    assert registry.state().document == expected
    registry.change(add(3), AT)
    assert registry.state().seq == 4
    (registry.directory / VIEW).unlink()
    assert registry.state().seq == 4


def test_a_view_and_journal_that_are_ahead_are_taken_over(tmp_path: Path) -> None:
    """As after git pull: their changes continue ours, so the next change puts them into refs/."""
    registry = grown(tmp_path, 3)
    shutil.copytree(tmp_path / ".mstore", tmp_path / "earlier")
    for number in (3, 4):
        registry.change(add(number), AT)
    expected = registry.state().document
    shutil.rmtree(tmp_path / ".mstore")
    (tmp_path / "earlier").rename(tmp_path / ".mstore")
    assert registry.ahead() == 2
    assert registry.state().document == expected
    assert "mstore adopt" in registry.state().notice
    registry.change(add(5), AT)
    assert registry.ahead() == 0
    assert registry.state().seq == 6
    check_whole(registry)


def test_a_view_that_is_ahead_without_its_journal_is_not_obeyed(tmp_path: Path) -> None:
    """Only records prove a change; the view is kept."""
    registry = grown(tmp_path, 3)
    expected = registry.state().document
    shutil.copytree(tmp_path / ".mstore", tmp_path / "earlier")
    journal = (registry.directory / JOURNAL).read_bytes()
    registry.change(add(3), AT)
    shutil.rmtree(tmp_path / ".mstore")
    (tmp_path / "earlier").rename(tmp_path / ".mstore")
    (registry.directory / JOURNAL).write_bytes(journal)
    assert registry.state().document == expected
    assert "is not used" in registry.state().notice


def test_a_fork_is_reported_and_not_obeyed(tmp_path: Path) -> None:
    """The same number with another digest is another history, journal or not."""
    registry = grown(tmp_path / "a", 3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    other = open_registry(tmp_path / "b")
    registry.change(add(3), AT)
    other.change(add(8), AT)
    expected = registry.state().document
    for name in (VIEW, JOURNAL):
        shutil.copy(other.directory / name, registry.directory / name)
    assert registry.state().document == expected
    assert "is of another history" in registry.state().notice
    registry.change(add(4), AT)
    assert [str(v) for v in registry.state().versions()] == [f"v1.{n}" for n in range(5)]


def test_a_record_of_another_history_is_an_integrity_error(tmp_path: Path) -> None:
    """It is intact and does not follow: nobody can tell which is right."""
    registry = grown(tmp_path / "a", 3)
    other = open_registry(tmp_path / "b")
    for number in (7, 8, 9):
        other.change(add(number), AT)
    name = "0000000003.json"
    shutil.copy(tmp_path / "b/.mstore/refs/m" / name, tmp_path / "a/.mstore/refs/m" / name)
    with pytest.raises(IntegrityError, match="does not follow"):
        registry.state()


def test_lost_records_are_an_integrity_error(tmp_path: Path) -> None:
    """Without view, journal and first record there is nothing to start from."""
    registry = grown(tmp_path, 3)
    (registry.directory / VIEW).unlink()
    (registry.directory / JOURNAL).unlink()
    (tmp_path / ".mstore/refs/m/0000000001.json").unlink()
    with pytest.raises(IntegrityError, match="record 1 of m is damaged or missing"):
        registry.state()


@pytest.mark.parametrize("cut", [1, 2, 20, 10_000])
def test_a_torn_line_of_the_journal_is_mended(tmp_path: Path, cut: int) -> None:
    """The next change completes the journal, whatever is missing at its end."""
    registry = grown(tmp_path, 3)
    path = registry.directory / JOURNAL
    data = path.read_bytes()
    path.write_bytes(data[: max(0, len(data) - cut)])
    assert [r["seq"] for r in registry.journal()] == ([] if cut > len(data) else [1, 2])
    registry.change(add(3), AT)
    check_whole(registry)


@pytest.mark.parametrize("torn", [0, 1, 70_000])
def test_lines_of_the_journal_may_be_long(tmp_path: Path, torn: int) -> None:
    """The record of an adoption holds all versions in one line, and may be torn too."""
    registry = grown(tmp_path, 1)
    registry.change(lambda _: Change("adopt", {"v9.0": {"notes": "x" * 300_000}}), AT)
    path = registry.directory / JOURNAL
    os.truncate(path, path.stat().st_size - torn)
    registry.change(add(2), AT)
    check_whole(registry)


def test_a_lost_journal_reaches_back_as_far_as_the_records(tmp_path: Path) -> None:
    """The next change writes what is still known."""
    registry = grown(tmp_path, 3)
    (registry.directory / JOURNAL).unlink()
    registry.change(add(3), AT)
    check_whole(registry)


def test_a_line_that_somebody_spoilt_is_no_reason_to_write_all_again(tmp_path: Path) -> None:
    """The newest line that can be read says where the journal stands."""
    registry = grown(tmp_path, 2)
    path = registry.directory / JOURNAL
    path.write_bytes(path.read_bytes() + b"a note\n")
    registry.change(add(2), AT)
    rows = path.read_bytes().splitlines()
    assert [row[:1] for row in rows] == [b"{", b"{", b"a", b"{"]
    with pytest.raises(IntegrityError, match=r"journal\.jsonl"):
        registry.journal()


def test_a_line_that_stands_twice_is_one_change(tmp_path: Path) -> None:
    """Where locks do not hold, two writers may both complete the journal."""
    registry = grown(tmp_path, 2)
    path = registry.directory / JOURNAL
    path.write_bytes(path.read_bytes() * 2)
    assert [record["seq"] for record in registry.journal()] == [1, 2]
    path.write_bytes(b'{"seq": "x"}\n')
    with pytest.raises(IntegrityError, match="no record"):
        registry.journal()


# --- crashes and races


@pytest.mark.parametrize("before", [0, 1, 3, 7])
def test_a_crash_at_any_step_leaves_the_old_state_or_the_new(tmp_path: Path, before: int) -> None:
    """Readers need no repair, the next change works, and the journal is whole; 3 and 7 compact."""
    grown(tmp_path / "whole", before + 1)
    new = open_registry(tmp_path / "whole").state().document
    outcomes = set()
    for step in range(1, 60):
        registry = grown(tmp_path / str(step), before)
        old = registry.state().document if before else None
        crashed = crashes(lambda registry=registry: registry.change(add(before), AT), step)
        seen = registry.state().document if registry.exists() else None
        assert seen in (old, new)
        outcomes.add("new" if seen == new else "old")
        for number in range(new["seq"] if seen == new else before, before + 6):
            registry.change(add(number), AT)
        check_whole(registry)
        assert registry.state().seq == before + 6
        if not crashed:
            assert seen == new
            assert outcomes == {"old", "new"}
            return
    pytest.fail("a change takes too many steps")


def test_a_crash_in_the_first_change_of_a_clone(tmp_path: Path) -> None:
    """Whether or not the base was written, the state is the clone's or the new one."""
    grown(tmp_path / "origin", 2)
    for step in range(1, 60):
        root = tmp_path / str(step)
        shutil.copytree(tmp_path / "origin/m", root / "m")
        registry = open_registry(root)
        crashed = crashes(lambda registry=registry: registry.change(add(2), AT), step)
        assert registry.state().seq in {2, 3}
        for number in range(registry.state().seq, 6):
            registry.change(add(number), AT)
        check_whole(registry)
        if not crashed:
            return
    pytest.fail("a change takes too many steps")


@pytest.mark.parametrize("count", [0, 2])
def test_without_a_working_lock_exactly_one_of_two_wins(tmp_path: Path, count: int) -> None:
    """Where flock lies, the exclusive creation of the record decides."""
    registry = grown(tmp_path, count)
    start = threading.Barrier(4)
    results: list[str] = []

    def run(number: int) -> None:
        def decide(state: State) -> Change:
            start.wait()
            return add(number)(state)

        try:
            open_registry(tmp_path).change(decide, AT)
            results.append("won")
        except ConflictError as error:
            results.append("lost" if error.hint else "without a hint")

    threads = [threading.Thread(target=run, args=(count + n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["lost", "lost", "lost", "won"]
    assert registry.state().seq == count + 1
    check_whole(registry)


def test_readers_never_see_anything_but_whole_states(tmp_path: Path) -> None:
    """While changes and compactions go on, every read is the state after some change."""
    registry = grown(tmp_path, 1)
    stop = threading.Event()
    seen: list[int] = []
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                state = open_registry(tmp_path).state()
                assert len(state.versions()) == state.seq
                seen.append(state.seq)
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 25):
        registry.change(add(number), AT)
    stop.set()
    reader.join()
    assert not failures
    assert seen == sorted(seen)


def test_a_thousand_versions(tmp_path: Path) -> None:
    """One change adds them, others follow, and everything is still found."""
    registry = open_registry(tmp_path)
    many = {f"v1.{n}": {"id": digest_of(b"%d" % n), "seq": 1} for n in range(1000)}
    registry.change(lambda _: Change("adopt", many, active="v1.0"), AT)
    registry.change(add(1000), AT)
    state = registry.state()
    assert len(state.versions()) == 1001
    assert str(state.versions()[-1]) == "v1.1000"
    entry = state.with_id(digest_of(b"999"))
    assert entry is not None
    assert str(entry.version) == "v1.999"
    check_whole(registry)
