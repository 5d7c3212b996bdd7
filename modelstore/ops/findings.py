"""What checking a store finds, as values: collected by fsck, and worked off by its `--repair`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Affected:
    """What of a version cannot be had because of a finding.

    Attributes:
        ref: the version in full.
        file: the file's path within it; "manifest.json" for the manifest.
        tensors: the tensors of that file that are lost; () where it is none.
    """

    ref: str
    file: str
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as mstore left it, or should be known.

    Attributes:
        kind: "format", "registry", "blob", "file", "name", "leftover" or "unneeded".
        name: the blob's digest, or the path below the store.
        what: one sentence without the name.
        serious: whether it is a problem; else it is a note, as of what a killed process left.
        affected: the versions and tensors that are lost with it; () where none is.
        mended: what `--repair` did about it, or "".
    """

    kind: str
    name: str
    what: str
    serious: bool = True
    affected: tuple[Affected, ...] = ()
    mended: str = ""

    def mended_by(self, how: str) -> Finding:
        """Return the finding as it is once something was done about it."""
        return replace(self, mended=how)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of a store went over, and what it found.

    Attributes:
        level: "quick", "default" or "full".
        models, versions, frames: how many were looked at.
        bytes_read: bytes of frames that were read and compared with their checksums.
        findings: problems first, then notes.
    """

    level: str
    models: int
    versions: int
    frames: int
    bytes_read: int
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What is wrong and was not mended."""
        return tuple(one for one in self.findings if one.serious and not one.mended)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What should be known."""
        return tuple(one for one in self.findings if not one.serious and not one.mended)

    @property
    def mended(self) -> tuple[Finding, ...]:
        """What `--repair` put right."""
        return tuple(one for one in self.findings if one.mended)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return ``findings`` with the problems first, otherwise as they came."""
    return tuple(sorted(findings, key=lambda one: not one.serious))
