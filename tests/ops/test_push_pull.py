"""Versions move between stores, and nothing is lost or overwritten on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.errors import ConflictError, IntegrityError, RemoteError
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.lines import read_line
from modelstore.ops.pointer import add_note, set_alias
from modelstore.ops.pull import pull
from modelstore.ops.push import push
from modelstore.ops.resolve import resolve
from modelstore.ops.rm import plan_rm, rm
from modelstore.remotes.base import Remote, Tag
from modelstore.state import Change
from modelstore.store import Store, create
from tests.models import write_model
from tests.ops.remotes import (
    LINE,
    Broken,
    Watched,
    assert_sound,
    commit_model,
    files_out,
    place,
    pull_from,
    push_to,
    remote_document,
)


def test_what_is_pushed_can_be_pulled(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """Another store has the same versions afterwards, byte for byte, and the same registry."""
    commit_model(store, tmp_path / "run")
    commit_model(store, tmp_path / "run", step=1e-4, activate=True)
    pushed = push_to(store, remote)
    pulled = pull_from(other, remote)

    assert pushed.outcome == "new"
    assert pushed.versions == ("v1.0", "v1.1")
    assert pulled.outcome == "new"
    assert pulled.versions == ("v1.0", "v1.1")
    assert other.state(LINE).document == store.state(LINE).document
    for version in ("v1.0", "v1.1"):
        assert files_out(other, version) == files_out(store, version)
        for name in ("manifest.json", "README.md", "model_info.json"):
            ours = other.version_dir(LINE, version) / name
            assert ours.read_bytes() == (store.version_dir(LINE, version) / name).read_bytes()
    assert_sound(other)


def test_a_further_version_moves_only_what_is_new(
    store: Store, remote: Remote, tmp_path: Path
) -> None:
    """A push after a fine-tune sends its new frames, its manifest, its record and the registry."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    before = set(store.blobs.iter_digests())
    commit_model(store, tmp_path / "run", step=1e-4)
    new = set(store.blobs.iter_digests()) - before

    watched = Watched(remote)
    done = push_to(store, watched)

    frames = {f"blobs/{digest[:2]}/{digest}" for digest in new}
    sizes = {key: size for key, size in watched.written.items() if key in frames}
    assert sizes == {f"blobs/{d[:2]}/{d}": store.blobs.path(d).stat().st_size for d in new}
    rest = sorted(key for key in watched.written if key not in frames)
    state = store.state(LINE)
    assert rest == [
        f"models/m/records/{state.seq:010d}-{state.head}.json",
        "models/m/registry.json",
    ]
    assert (done.frames, done.bytes) == (len(new), sum(sizes.values()))


def test_a_push_without_changes_costs_a_few_small_requests(
    store: Store, remote: Remote, tmp_path: Path
) -> None:
    """Nothing is written and nothing is listed where the remote has our newest record."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    watched = Watched(remote)
    assert push_to(store, watched).outcome == "same"
    assert watched.written == {}
    assert len(watched.calls) <= 3
    assert "list" not in [name for name, _ in watched.calls]


def test_changes_there_are_added_to_ours(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """A pull where we changed nothing appends their records, byte for byte."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    pull_from(other, remote)
    commit_model(store, tmp_path / "run", step=1e-4)
    set_alias(store, "prod", resolve(store, "v1.1"))
    push_to(store, remote)

    done = pull_from(other, remote)

    assert done.outcome == "forward"
    assert done.versions == ("v1.1",)
    journals = [one.root / LINE / "journal.jsonl" for one in (store, other)]
    assert journals[0].read_bytes() == journals[1].read_bytes()
    assert other.state(LINE).aliases == {"prod": "v1.1"}
    assert pull_from(other, remote).outcome == "same"
    assert_sound(other)


def test_of_two_that_push_one_is_told_to_pull(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """Who pushes without what the other pushed is refused, and a pull says how to go on."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    pull_from(other, remote)
    commit_model(store, tmp_path / "run", step=1e-4)
    commit_model(other, tmp_path / "run", step=2e-4)
    push_to(other, remote)

    with pytest.raises(ConflictError, match="has changes of m that are not here") as refused:
        push_to(store, remote)
    assert "mstore pull" in refused.value.hint
    with pytest.raises(ConflictError, match="was changed here and at") as diverged:
        pull_from(store, remote)
    assert "--rebase" in diverged.value.hint
    assert [str(v) for v in store.state(LINE).versions()] == ["v1.0", "v1.1"]


def test_one_model_in_conflict_keeps_no_other_back(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """A pull of several models takes over what it can, and then says what it could not."""
    second = ModelName("n")
    commit_model(store, tmp_path / "run")
    commit(store, write_model(tmp_path / "n", seed=7), second, CommitOptions())
    commit_model(other, tmp_path / "run", step=1e-4)
    assert [one.outcome for one in push(store, place(remote))] == ["new", "new"]
    with pytest.raises(ConflictError, match="m was changed"):
        pull(other, place(remote))
    assert other.models() == [LINE, second]
    outcomes = [(one.model, one.outcome) for one in push(other, place(remote))]
    assert outcomes == [(LINE, "failed"), (second, "same")]


def test_a_rebase_puts_ours_on_top_of_theirs(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """Our version of a number that they gave, too, gets the next one; then a push goes through."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    pull_from(other, remote)
    commit_model(store, tmp_path / "run", step=1e-4, activate=True)
    ours = files_out(store, "v1.1")
    set_alias(store, "mine", resolve(store, "v1.1"))
    add_note(store, resolve(store, "v1.0"), "from here")
    commit_model(other, tmp_path / "run", step=2e-4)
    set_alias(other, "theirs", resolve(other, "v1.1"))
    push_to(other, remote)
    theirs = files_out(other, "v1.1")

    done = pull_from(store, remote, rebase=True)

    assert done.outcome == "rebased"
    assert done.renamed == {"v1.1": "v1.2"}
    assert any("m@v1.2" in sentence for sentence in done.said)
    state = store.state(LINE)
    assert [str(v) for v in state.versions()] == ["v1.0", "v1.1", "v1.2"]
    assert state.active == "v1.2"
    assert state.aliases == {"mine": "v1.2", "theirs": "v1.1"}
    assert resolve(store, "v1.0").entry.text("notes").endswith("from here")
    assert files_out(store, "v1.2") == ours
    assert files_out(store, "v1.1") == theirs
    assert (store.version_dir(LINE, "v1.2") / "README.md").read_text().startswith("# m v1.2")
    assert_sound(store)

    assert push_to(store, remote).outcome == "forward"
    assert pull_from(other, remote).outcome == "forward"
    assert other.state(LINE).document == store.state(LINE).document
    assert_sound(other)


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", ["push", "pull", "rebase"])
def test_whatever_call_fails_the_next_attempt_goes_on(
    tmp_path: Path, remote: Remote, what: str, stride: int
) -> None:
    """After a failure anywhere both sides are as before or as after, and trying again does it."""
    first = create(tmp_path / "first")
    commit_model(first, tmp_path / "run")
    push_to(first, remote)
    for step in range(0, 200, stride):
        second = create(tmp_path / f"second{step}")
        pull_from(second, remote)
        if what == "push":
            mover, other = second, first
            commit_model(second, tmp_path / "run", step=1e-4 * (step + 1))
        else:
            mover, other = second, first
            commit_model(first, tmp_path / "run", step=1e-4 * (step + 1))
            push_to(first, remote)
            if what == "rebase":
                commit_model(second, tmp_path / "run", step=2e-4 * (step + 1))

        def move(at: Remote, mover: Store = mover) -> None:
            push_to(mover, at) if what == "push" else pull_from(mover, at, rebase=True)

        failed = False
        try:
            move(Watched(remote, Broken(step)))
        except RemoteError:
            failed = True
            move(remote)
        assert remote_document(remote) == (
            mover.state(LINE).document if what != "rebase" else other.state(LINE).document
        )
        if what == "push":
            pull_from(other, remote)
        if not failed:
            break
    assert_sound(second)
    assert step > 3


def test_a_lost_reply_is_known_for_the_own_success(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """Where the swap was done and its reply lost, the next push finds nothing left to do."""
    commit_model(store, tmp_path / "run")

    class Deaf(Watched):
        def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
            super().swap(key, data, expected)
            raise RemoteError("the reply was lost")

    remote.list()
    push_to(store, remote)
    commit_model(store, tmp_path / "run", step=1e-4)
    with pytest.raises(RemoteError, match="lost"):
        push_to(store, Deaf(remote))
    assert push_to(store, remote).outcome == "same"
    assert pull_from(other, remote).versions == ("v1.0", "v1.1")


def test_a_race_lost_at_the_last_moment_is_a_conflict(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """Whoever is overtaken between looking and swapping is told to pull, and nothing is lost."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    pull_from(other, remote)
    commit_model(store, tmp_path / "run", step=1e-4)
    commit_model(other, tmp_path / "run", step=2e-4)

    def overtake(name: str, key: str) -> None:
        if name == "swap":
            push_to(other, remote)

    with pytest.raises(ConflictError, match="at the same moment") as lost:
        push_to(store, Watched(remote, overtake))
    assert "mstore pull" in lost.value.hint
    assert remote_document(remote) == other.state(LINE).document


def test_what_a_prune_takes_away_meanwhile_is_sent_again(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """Frames that were in the listing and go before the registry is swapped come back."""
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    commit_model(store, tmp_path / "run", step=1e-4)
    lists = []

    def prune(name: str, key: str) -> None:
        if name == "list":
            lists.append(key)
            if len(lists) == 2:
                remote.delete([value.key for value in remote.list("blobs")])

    push_to(store, Watched(remote, prune))
    assert pull_from(other, remote).versions == ("v1.0", "v1.1")


def test_a_damaged_frame_keeps_its_registry_back(
    store: Store, remote: Remote, tmp_path: Path
) -> None:
    """A store that lost bytes pushes nothing that would name them, and the exit code is 6."""
    commit_model(store, tmp_path / "run")
    digest = max(store.blobs.iter_digests(), key=lambda d: store.blobs.header(d).raw_size)
    path = store.blobs.path(digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=str(digest)):
        push_to(store, remote)
    assert read_line(remote, LINE) is None


def test_lines_that_only_init_made_are_no_changes_of_ours(
    store: Store, other: Store, remote: Remote, tmp_path: Path
) -> None:
    """A line without versions gives way to the one that was pushed, without a rebase."""
    for one in (store, other):
        one.change(LINE, lambda _: Change("init", values={"base_model": "x"}))
    commit_model(store, tmp_path / "run")
    push_to(store, remote)
    assert pull_from(other, remote).outcome == "new"
    assert_sound(other)


def test_removals_travel(store: Store, other: Store, remote: Remote, tmp_path: Path) -> None:
    """A version that was removed and pushed is removed where it is pulled."""
    commit_model(store, tmp_path / "run")
    commit_model(store, tmp_path / "run", step=1e-4)
    push_to(store, remote)
    pull_from(other, remote)
    rm(store, plan_rm(store, [resolve(store, "v1.1")]))
    push_to(store, remote)
    assert pull_from(other, remote).outcome == "forward"
    assert [str(v) for v in other.state(LINE).versions()] == ["v1.0"]
    assert not other.version_dir(LINE, "v1.1").exists()
    assert_sound(other)
