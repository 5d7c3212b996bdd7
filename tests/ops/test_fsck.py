"""Fsck finds what is wrong, says what is lost with it, and writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import StoreError, UsageError
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.findings import Checked, Finding
from modelstore.ops.fsck import Level, fsck, parse_subset
from modelstore.ops.mend import repair
from modelstore.ops.resolve import resolve
from modelstore.store import Store
from tests.frames import put_frame
from tests.models import files_of, write_model

LINE = ModelName("m")
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A store with three versions, each built on the one before; their files are in 0/, 1/, 2/."""
    for number in range(3):
        source = write_model(tmp_path / str(number), step=number * 1e-4)
        commit(store, source, LINE, CommitOptions(message=str(number)))
    return store


def blob_of(store: Store, ref: str, tensor: str = EMBEDDING) -> Digest:
    """Return the blob of a version's tensor."""
    manifest = store.manifest(LINE, resolve(store, ref).entry)
    return next(span.blob for _, span, one in manifest.tensors() if one.name == tensor)


def named(found: Checked, name: str) -> Finding:
    """Return the one finding about ``name``."""
    (finding,) = [one for one in found.findings if one.name == name]
    return finding


def write(path: Path, data: bytes) -> None:
    """Write to a file that is read-only."""
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("level", Level)
def test_a_sound_store_is_sound_and_untouched(line: Store, level: Level) -> None:
    """Nothing is found at any level, and not a byte of the store is changed."""
    before = files_of(line.root)
    found = fsck(line, level)
    assert found.findings == ()
    assert found.sound
    assert (found.models, found.versions, found.level) == (1, 3, level.value)
    assert files_of(line.root) == before


def test_the_full_level_reads_every_byte(line: Store) -> None:
    """Bytes that were read are those of all frames."""
    sizes = [line.blobs.path(d).stat().st_size for d in line.blobs.iter_digests()]
    assert fsck(line, Level.FULL).bytes_read >= sum(sizes)
    assert fsck(line).bytes_read < sum(sizes)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "C07 zero length": lambda data: b"",
    "C08 zeros": lambda data: bytes(len(data)),
    "I04 truncated": lambda data: data[:-1],
    "I05 appended": lambda data: data + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("level", Level)
def test_a_damaged_frame_is_found_refused_and_healed_by_a_commit(
    line: Store, tmp_path: Path, damage: str, level: Level
) -> None:
    """Whatever its mode says; the finding names every version that needs it and the tensor."""
    digest = blob_of(line, "v1.0")
    path = line.blobs.path(digest)
    write(path, DAMAGES[damage](path.read_bytes()))
    path.chmod(0o444)

    finding = named(fsck(line, level), digest)
    touched = {ref for ref in ("m@v1.0", "m@v1.1", "m@v1.2") if not readable(line, ref)}
    assert {one.ref for one in finding.affected} == (
        touched if level is not Level.QUICK else touched | {"m@v1.0"}
    )
    assert {one.tensors for one in finding.affected} == {(EMBEDDING,)}
    with pytest.raises(StoreError):
        line.blobs.read(digest)
    with pytest.raises(StoreError):
        checkout(line, resolve(line, "v1.0"), output=tmp_path / "out")

    made = commit(line, tmp_path / "0", LINE, CommitOptions(parents=("v1.0",)))
    assert made.brought_back == 1
    assert fsck(line, Level.FULL).sound


def readable(store: Store, ref: str) -> bool:
    """Tell whether the embedding of a version can be read."""
    return store.blobs.is_sound(blob_of(store, ref))


def test_i02_two_frames_that_were_swapped_are_both_found(line: Store) -> None:
    """A frame says whose it is."""
    one, other = (line.blobs.path(blob_of(line, ref)) for ref in ("v1.0", "v1.2"))
    first, second = one.read_bytes(), other.read_bytes()
    write(one, second)
    write(other, first)
    found = fsck(line, Level.QUICK)
    assert {one.name, other.name} <= {problem.name for problem in found.problems}


def test_i03_a_frame_under_the_name_of_another_blob_is_found(line: Store) -> None:
    """And it is not served as that blob."""
    digest = blob_of(line, "v1.0")
    wrong = digest_of(b"something else")
    shutil.copy(line.blobs.path(digest), line.blobs.path(wrong))
    assert "contradicts itself" in named(fsck(line), wrong).what
    with pytest.raises(StoreError):
        line.blobs.read(wrong)


def test_a_damaged_base_touches_all_that_is_built_on_it(line: Store) -> None:
    """One cause is one problem, with every version whose tensor is built on it."""
    base = line.blobs.header(blob_of(line, "v1.2")).base
    assert base is not None
    path = line.blobs.path(base)
    data = path.read_bytes()
    write(path, data[:-1] + bytes([data[-1] ^ 1]))
    (problem,) = fsck(line, Level.FULL).problems
    assert problem.name == base
    assert "m@v1.2" in {one.ref for one in problem.affected}
    assert fsck(line).sound  # only reading tells


def test_a_missing_frame_is_found_with_all_that_is_lost(line: Store) -> None:
    """At every level: it is named, and so are version, file and tensor."""
    digest = blob_of(line, "v1.2")
    line.blobs.path(digest).unlink()
    for level in Level:
        problem = named(fsck(line, level), digest)
        assert problem.what == "is not in the store"
        (lost,) = problem.affected
        assert (lost.ref, lost.file, lost.tensors) == (
            "m@v1.2",
            "model.safetensors",
            (EMBEDDING,),
        )


def test_a_damaged_manifest_is_found_though_the_directory_has_it(line: Store) -> None:
    """Reading goes on with the copy whose digest is right; without that, the version is lost."""
    resolved = resolve(line, "v1.1")
    assert resolved.id is not None
    write(line.blobs.path(resolved.id), b"")
    assert checkout(line, resolved).written
    problem = named(fsck(line, Level.QUICK), resolved.id)
    assert [one.file for one in problem.affected] == ["manifest.json"]
    (line.root / "m/v1.1/manifest.json").unlink()
    problem = named(fsck(line), resolved.id)
    assert "without which no file can be read" in problem.what
    with pytest.raises(StoreError):
        checkout(line, resolved, output=line.root.parent / "out")


def test_a_deeper_base_is_found(line: Store) -> None:
    """A frame whose base is not less deep cannot be read."""
    first, second = blob_of(line, "v1.0"), blob_of(line, "v1.1")
    assert line.blobs.header(second).base == first
    info = line.blobs.header(second).info
    put_frame(line.blobs, line.blobs.read(first), info, second, dtype="F32")
    assert "not less deep" in named(fsck(line), second).what
    with pytest.raises(StoreError):
        line.blobs.read(second)


def test_unneeded_and_strange_files_are_notes(line: Store) -> None:
    """They are told, and the store is sound."""
    with line.blobs.transaction() as transaction:
        transaction.add_bytes(b"nobody needs this")
        transaction.publish()
    (line.meta / "blobs/00/README").write_text("what is this")
    digest = blob_of(line, "v1.0")
    wrong = line.meta / "blobs" / ("00" if digest[:2] != "00" else "01") / digest
    shutil.copy(line.blobs.path(digest), wrong)
    (line.meta / "tmp/0123456789abcdef").mkdir()
    shutil.copytree(line.root / "m/v1.0", line.root / "m/v7.0")
    (line.root / "m/.v1.3.01234567.tmp").mkdir()
    (line.root / "M").mkdir()
    found = fsck(line)
    assert found.sound
    notes = {one.name: one.what for one in found.notes}
    assert "1 that no version needs" in notes["frames"]
    assert notes[".mstore/blobs/00/README"] == "is no frame"
    assert f"belongs into blobs/{digest[:2]}/" in notes[str(wrong.relative_to(line.root))]
    assert "staging" in notes[".mstore/tmp/0123456789abcdef"]
    assert "m/v7.0" in notes
    assert "half written" in notes["m/.v1.3.01234567.tmp"]
    assert "'M', 'm'" in notes["."]
    assert fsck(line, Level.QUICK).findings == ()


@pytest.mark.parametrize("name", ["manifest.json", "model_info.json", "README.md"])
@pytest.mark.parametrize("lose", [True, False])
def test_small_files_are_checked(line: Store, name: str, lose: bool) -> None:
    """Those that mstore wrote must be as it wrote them; a README is there to be edited."""
    path = line.root / "m/v1.1" / name
    path.unlink() if lose else path.write_text("edited")
    finding = named(fsck(line), f"m/v1.1/{name}")
    assert finding.serious == (name != "README.md")
    assert ("missing" in finding.what) == lose


def test_settings_are_checked(line: Store) -> None:
    """A damaged config.json stops nothing, and is told."""
    config = line.meta / "config.json"
    config.write_bytes(b'{"last_model": "gone"}\n')
    assert "does not exist" in named(fsck(line), ".mstore/config.json").what
    config.write_bytes(b'{"last_')
    assert not fsck(line).sound
    assert line.config() == {}
    assert any("fsck --repair" in notice for notice in line.notices)
    (line.meta / "format.json").write_bytes(b'{"format": 1}')
    assert not fsck(line).sound


def test_a_git_clone_of_the_small_files_lists_what_is_missing(line: Store) -> None:
    """Every blob is lost, the registry is not."""
    shutil.rmtree(line.meta)
    found = fsck(Store(line.root))
    assert {one.what for one in found.problems if one.kind == "blob"} == {"is not in the store"}
    assert any("only the registry" in one.what for one in found.notes)
    assert not line.meta.exists()


def test_lost_records_beside_frames_and_view_come_back(line: Store) -> None:
    """Who removed .mstore/refs/MODEL has lost nothing: view and journal say it all."""
    refs = line.meta / "refs" / LINE
    before = line.state(LINE)
    shutil.rmtree(refs)
    finding = named(fsck(line), f".mstore/refs/{LINE}")
    assert finding.what.startswith("is missing")
    assert not finding.serious  # a pull --rebase that was killed leaves the same
    assert repair(line).sound
    assert fsck(line).sound
    assert line.registry(LINE).has_records()
    assert line.state(LINE).document == before.document


# --- a part of the frames


@given(st.sets(st.binary(max_size=4), max_size=40), st.integers(1, 9))
def test_all_parts_together_are_all_frames_each_once(texts: set[bytes], count: int) -> None:
    """Whatever their number."""
    sizes = {digest_of(text): len(text) + 1 for text in texts}
    parts = [parse_subset(f"{n}/{count}").choose(sizes) for n in range(1, count + 1)]
    assert sum(map(len, parts)) == len(sizes)
    assert set().union(*parts) == set(sizes)


@pytest.mark.parametrize("text", ["20%", "33.4%", "100%", "120B", "1k"])
def test_over_as_many_days_every_frame_has_its_turn(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part goes on with the day, and nothing is remembered."""
    sizes = {digest_of(b"%d" % n): 10 for n in range(60)}
    subset = parse_subset(text)
    days = max(subset.of, -(-600 // subset.size) if subset.size else 0)
    seen: list[Digest] = []
    for day in range(days):
        monkeypatch.setattr("time.time", lambda day=day: 86400.0 * day + 5)
        seen += subset.choose(sizes)
    assert sorted(seen) == sorted(sizes)


@pytest.mark.parametrize("text", ["", "0/3", "4/3", "1/0", "0%", "101%", "-5%", "x", "0", "1/2/3"])
def test_what_is_no_part_is_refused(text: str) -> None:
    """The message says what one looks like."""
    with pytest.raises(UsageError, match="no part of the frames"):
        parse_subset(text)


def test_a_subset_finds_what_lies_in_it(line: Store) -> None:
    """A flipped bit is found by exactly one of the parts."""
    digest = blob_of(line, "v1.2")
    path = line.blobs.path(digest)
    data = path.read_bytes()
    write(path, data[:-1] + bytes([data[-1] ^ 1]))
    found = [fsck(line, subset=parse_subset(f"{n}/3")) for n in (1, 2, 3)]
    assert sorted(one.sound for one in found) == [False, True, True]
