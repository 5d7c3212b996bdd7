"""The one entry to the formats: from a file to its spans.

It never fails on what a file holds: a file that breaks the rules of its format is bytes like any
other, and the split says so.
"""

from __future__ import annotations

from modelstore.formats.base import Format, MalformedError, Source, Split
from modelstore.formats.gguf import Gguf
from modelstore.formats.opaque import Opaque
from modelstore.formats.rules import checked_cover, quoted
from modelstore.formats.safetensors import Safetensors
from modelstore.formats.torch_zip import TorchZip

FORMATS: tuple[Format, ...] = (Safetensors(), TorchZip(), Gguf())
"""Those that find tensors, in the order in which they are tried."""

_OPAQUE = Opaque()


def split(source: Source) -> Split:
    """Return the spans of a file, by the first format that it follows, else as opaque bytes.

    Reads little more than headers, except where an opaque file is cut by its content.
    """
    warning = ""
    for one in FORMATS:
        if not one.matches(source):
            continue
        try:
            spans = checked_cover(one.spans(source), source.size)
        except MalformedError as error:
            warning = warning or f"{quoted(source.name)} is no valid {one.name} file: {error}"
        else:
            return Split(one.name, spans, warning)
    warning = warning and f"{warning}; it is stored as plain bytes"
    return Split(_OPAQUE.name, checked_cover(_OPAQUE.spans(source), source.size), warning)
