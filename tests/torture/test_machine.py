"""A store does for any sequence of commands what a dict of versions does."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from modelstore.errors import ConflictError, IntegrityError, NotFoundError
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout, release
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.gc import EVERYTHING, gc, plan_gc
from modelstore.ops.mend import repair
from modelstore.ops.pointer import set_active
from modelstore.ops.repack import repack
from modelstore.ops.repack_ways import Effort
from modelstore.ops.resolve import Resolved, resolve
from modelstore.ops.rm import plan_rm, rm
from modelstore.ops.undelete import resolve_removed, undelete
from modelstore.store import Store, create
from tests.builders import safetensors_bytes
from tests.crashes import crashes
from tests.models import weights
from tests.torture.length import LONG, SHARED_MEMORY

pytestmark = pytest.mark.timeout(3600 if LONG else 300)

Content: TypeAlias = dict[str, bytes]

MODELS = ("a", "b")
STAMPS = (0, 2**31 + 10, 4102444800)
"""Times that a wrong clock gives files: 1970, 2038 and 2100."""

BYTES_A_BIT_APART = 0x40


def content(seed: int, steps: int, note: int) -> Content:
    """Return the files of a model: ``steps`` small steps of training from a base, and a note."""
    tensors = weights(seed, step=1e-4 * steps, dtype="BF16")
    return {"model.safetensors": safetensors_bytes(tensors), "notes.txt": b"%d" % note}


@dataclass
class Line:
    """What a model should be.

    Attributes:
        versions, removed: the files of each.
        gone: removed ones whose blobs may have been purged.
        active: the ACTIVE version, or "".
        firsts: the files of first commits that were killed; one may have left its directory.
    """

    versions: dict[str, Content] = field(default_factory=dict)
    removed: dict[str, Content] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    active: str = ""
    firsts: list[Content] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """Two handles of one store, and the dict that tells what they should say.

    Rules have no preconditions: at which call a process dies is not the same each time, and what is
    drawn must not depend on that. A rule that finds nothing to do does nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        place = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        self.world = Path(tempfile.mkdtemp(prefix="machine-", dir=place))
        self.lines = {name: Line() for name in MODELS}
        self.turn = 0

    @initialize()
    def made(self) -> None:
        """Make the store, and open it twice."""
        root = create(self.world / "store").root
        self.handles = [Store(root), Store(root)]

    def teardown(self) -> None:
        """Every byte is right in the end."""
        try:
            assert fsck(self.store, Level.FULL).sound
        finally:
            shutil.rmtree(self.world)

    @property
    def store(self) -> Store:
        """The handle whose turn it is."""
        return self.handles[self.turn]

    # --- what may be done

    def _write(self, files: Content) -> Path:
        directory = self.world / "run"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for name, data in files.items():
            (directory / name).write_bytes(data)
        return directory

    def _ref(self, model: str, version: str) -> Resolved:
        return resolve(self.store, f"{model}@{version}")

    def _pick(self, versions: dict[str, Content], number: int) -> str:
        return sorted(versions)[number % len(versions)]

    @rule(
        model=st.sampled_from(MODELS),
        seed=st.integers(1, 2),
        steps=st.integers(0, 4),
        note=st.integers(0, 2),
    )
    def commits(self, model: str, seed: int, steps: int, note: int) -> None:
        """A commit is the next version, unless it is the same as its parent."""
        files = content(seed, steps, note)
        line = self.lines[model]
        done = commit(self.store, self._write(files), ModelName(model), CommitOptions())
        newest = list(line.versions.values())[-1:]
        if done.created:
            assert newest != [files]
            assert done.version not in {**line.versions, **line.removed}
            line.versions[done.version] = files
            line.active = line.active or done.version
        else:
            assert line.versions[done.version] == files

    @rule(model=st.sampled_from(MODELS), steps=st.integers(0, 4), step=st.integers(1, 60))
    def commit_crashes(self, model: str, steps: int, step: int) -> None:
        """A commit that is killed made the version, or none."""
        files = content(1, steps, 7)
        line, run = self.lines[model], self._write(files)
        crashes(lambda: commit(self.store, run, ModelName(model), CommitOptions()), step)
        self._reopen()
        if ModelName(model) not in self.store.models():
            line.firsts.append(files)
            return
        state = self.store.state(ModelName(model))
        made = {str(version) for version in state.versions()} - set(line.versions)
        assert len(made) <= 1
        for version in made:
            line.versions[version] = files
            line.active = line.active or version

    @rule(model=st.sampled_from(MODELS), number=st.integers(0, 9), crash=st.integers(0, 40))
    def removes(self, model: str, number: int, crash: int) -> None:
        """A version is removed unless it is ACTIVE, wholly or, when killed, not at all."""
        line = self.lines[model]
        if not line.versions:
            return
        version = self._pick(line.versions, number)
        one = self._ref(model, version)
        if version == line.active:
            try:
                plan_rm(self.store, [one])
            except ConflictError:
                return
            raise AssertionError("ACTIVE could be removed")
        died = crash and crashes(
            lambda: rm(self.store, plan_rm(self.store, [one], force=True)), crash
        )
        if died:
            self._reopen()
            if self.store.state(ModelName(model)).entry(version) is not None:
                return
        elif not crash:
            rm(self.store, plan_rm(self.store, [one], force=True))
        line.removed[version] = line.versions.pop(version)

    @rule(model=st.sampled_from(MODELS), number=st.integers(0, 9))
    def undeletes(self, model: str, number: int) -> None:
        """A removed version comes back, until the purge."""
        line = self.lines[model]
        if not line.removed:
            return
        version = self._pick(line.removed, number)
        try:
            undelete(self.store, resolve_removed(self.store, f"{model}@{version}"))
        except NotFoundError:
            assert version in line.gone
            return
        line.gone.discard(version)
        line.versions[version] = line.removed.pop(version)

    @rule(model=st.sampled_from(MODELS), number=st.integers(0, 9))
    def activates(self, model: str, number: int) -> None:
        """ACTIVE is what it was set to."""
        line = self.lines[model]
        if line.versions:
            line.active = self._pick(line.versions, number)
            set_active(self.store, self._ref(model, line.active))

    @rule(purge=st.booleans(), crash=st.integers(0, 30))
    def collects(self, purge: bool, crash: int) -> None:
        """A gc takes nothing that a version needs, wherever it is killed."""

        def action() -> None:
            gc(self.store, plan_gc(self.store, EVERYTHING, purge_now=purge))

        if crash:
            crashes(action, crash)
            self._reopen()
        else:
            action()
        for line in self.lines.values() if purge else ():
            line.gone |= set(line.removed)

    @rule(effort=st.sampled_from((Effort.FAST, Effort.NORMAL)))
    def repacks(self, effort: Effort) -> None:
        """A repack changes nothing that can be seen."""
        repack(self.store, effort=effort)

    @rule(model=st.sampled_from(MODELS), number=st.integers(0, 9), blob=st.integers(0, 99))
    def heals(self, model: str, number: int, blob: int) -> None:
        """A damaged frame is never served, and comes back from where its version is checked out."""
        line = self.lines[model]
        if not line.versions:
            return
        version = self._pick(line.versions, number)
        one, out = self._ref(model, version), self.world / "out"
        checkout(self.store, one, output=out, force=True)
        blobs = sorted(self.store.manifest(one.model, one.entry).blobs())
        self._damage(self.store.blobs.path(blobs[blob % len(blobs)]), blob)
        try:
            self._compare(model, version)
        except IntegrityError:
            pass
        else:
            raise AssertionError("a damaged frame was served")
        assert not fsck(self.store, Level.FULL).sound
        assert repair(self.store, Level.FULL).sound
        for name in MODELS:
            self._take_up_first(name)
        release(self.store, one, output=out)

    def _take_up_first(self, model: str) -> None:
        """Expect the version of a killed first commit, if the repair found it whole.

        A version's directory without any registry is what a lost registry leaves, too.
        """
        line = self.lines[model]
        if line.versions or ModelName(model) not in self.store.models():
            return
        (version,) = map(str, self.store.state(ModelName(model)).versions())
        found = self._read(model, version)
        assert found in line.firsts
        line.versions[version], line.active = found, version

    def _damage(self, frame: Path, number: int) -> None:
        data = bytearray(frame.read_bytes())
        data[number * 7919 % len(data)] ^= BYTES_A_BIT_APART
        frame.chmod(0o644)
        frame.write_bytes(data)

    @rule(number=st.integers(0, 9))
    def commits_again_what_was_damaged(self, number: int) -> None:
        """Committing the same content heals what was damaged of it."""
        line = self.lines["a"]
        if not line.versions:
            return
        version = list(line.versions)[-1]
        one = self._ref("a", version)
        blobs = sorted(self.store.manifest(one.model, one.entry).blobs())
        self._damage(self.store.blobs.path(blobs[number % len(blobs)]), number)
        files = line.versions[version]
        done = commit(
            self.store, self._write(files), one.model, CommitOptions(parents=(f"a@{version}",))
        )
        assert not done.created

    @rule(stamp=st.sampled_from(STAMPS))
    def clock_jumps(self, stamp: int) -> None:
        """No file's time means anything."""
        for parent, _, names in os.walk(self.store.meta):
            for name in names:
                os.utime(Path(parent, name), (stamp, stamp))

    @rule()
    def other_handle(self) -> None:
        """Another process goes on."""
        self.turn = 1 - self.turn

    @rule()
    def reopened(self) -> None:
        """The store is opened anew."""
        self._reopen()

    def _reopen(self) -> None:
        self.handles[self.turn] = Store(self.store.root)

    # --- what is true at any time

    @invariant()
    def agrees(self) -> None:
        """Every version is there with every byte, ACTIVE is what it should be, and fsck is content."""
        if not hasattr(self, "handles"):
            return
        for name, line in self.lines.items():
            if not line.versions and ModelName(name) not in self.store.models():
                continue
            state = self.store.state(ModelName(name))
            assert {str(version) for version in state.versions()} == set(line.versions)
            assert state.active == line.active
            for version in line.versions:
                self._compare(name, version)
        found = fsck(self.store)
        assert found.sound, found.problems

    def _compare(self, model: str, version: str) -> None:
        assert self._read(model, version) == self.lines[model].versions[version]

    def _read(self, model: str, version: str) -> Content:
        one = self._ref(model, version)
        manifest = self.store.manifest(one.model, one.entry)
        return {
            file.path: b"".join(self.store.blobs.read(Digest(span.blob)) for span in file.spans)
            for file in manifest.files
        }


Machine.TestCase.settings = settings(
    max_examples=300 if LONG else 20,
    stateful_step_count=40 if LONG else 20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

TestMachine = Machine.TestCase
