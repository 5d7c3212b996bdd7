"""Import of a GGUF file: it becomes a version, if it is whole."""

from __future__ import annotations

from pathlib import Path

from modelstore.errors import IntegrityError, UsageError
from modelstore.formats.gguf import MAGIC
from modelstore.formats.split import split
from modelstore.ops.import_source import Source, suggest
from modelstore.ops.scan import CommittedFile

_FORMAT = "gguf"


def source(path: Path) -> Source:
    """Return a GGUF file as what it can become.

    Raises:
        UsageError: it is another file.
        IntegrityError: it is cut short, or damaged where that can be seen.
    """
    with CommittedFile(path, path.name) as file:
        if file.size < len(MAGIC) or file.read(0, len(MAGIC)) != MAGIC:
            raise UsageError(
                f"'{path}' is no GGUF file", f"commit it as it is: mstore commit {path} -m MESSAGE"
            )
        found = split(file)
        size = file.size
    if found.format != _FORMAT:
        raise IntegrityError(
            found.warning.partition(";")[0],
            "fetch it again from where it came, and repeat the command",
        )
    return Source(origin=path.name, path=path, suggested=suggest(path.stem), size=size, files=1)
