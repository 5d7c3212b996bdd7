"""What adopting a directory would do, as values: a plan is shown, and then carried out as shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelstore.names import ModelName, Version
from modelstore.ops.edits import Edits
from modelstore.ops.foreign_entry import Told
from modelstore.ops.tree import Tree


@dataclass(frozen=True, slots=True)
class Ignored:
    """A directory that is left alone, and why."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class VersionPlan:
    """What is to become of one version.

    Attributes:
        version: its number, spelt as the registry will.
        directory: where its files are, None where there are none.
        tree: those files; none: it is listed, and marked missing.
        values: its entry in the registry until its files are stored.
        told: what is known of it.
        problem: why its files cannot be taken, one sentence, or "".
        lost: blobs of it that the store has lost and its files bring back; 0: it is new.
    """

    version: Version
    directory: Path | None
    tree: Tree
    values: Mapping[str, Any]
    told: Told
    problem: str = ""
    lost: int = 0

    @property
    def missing(self) -> bool:
        """Whether there is nothing to store."""
        return not self.tree.files and not self.lost

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.tree.files)

    @property
    def in_place(self) -> bool:
        """Whether its files lie in the directory that a checkout writes to."""
        return self.directory is not None and self.directory.name == str(self.version)


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What is to become of one model.

    Attributes:
        model: its name.
        registry: what there is: "foreign", "corrupt", "none", or "mstore".
        versions: what is to be stored or listed, in the order of their numbers.
        active: the version that was recorded as active, or "".
        values: further keys of the registry.
        remarks: what the user should know, one sentence each.
        edits: what somebody wrote into a registry of mstore.
        ahead: changes that its journal has and `.mstore` has not, as after git pull.
    """

    model: ModelName
    registry: str
    versions: tuple[VersionPlan, ...]
    active: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    edits: Edits = field(default_factory=Edits)
    ahead: int = 0

    @property
    def fresh(self) -> bool:
        """Whether it has no registry of mstore yet."""
        return self.registry != "mstore"

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        some = any(not version.missing for version in self.versions)
        return self.fresh or some or self.edits.pending or self.ahead > 0


@dataclass(frozen=True, slots=True)
class AdoptPlan:
    """What adopting a directory would do.

    Attributes:
        root: the directory.
        models: the models in it.
        ignored: directories that are left alone.
        free: bytes that are free there.
        follow_symlinks: take what symlinks in the versions lead to.
    """

    root: Path
    models: tuple[ModelPlan, ...]
    ignored: tuple[Ignored, ...]
    free: int
    follow_symlinks: bool = False

    @property
    def need(self) -> int:
        """Bytes that it takes in the worst case: as many as the files have."""
        return sum(version.size for model in self.models for version in model.versions)

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        return any(model.pending for model in self.models)
