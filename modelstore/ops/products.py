"""What an adapter that is at hand says of the tensors it was merged into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from modelstore.adapters import WEIGHTS, Adapted, read_adapter
from modelstore.blobs import FileSource
from modelstore.blobs.product import Product
from modelstore.errors import ConflictError
from modelstore.manifest import BlobSpan
from modelstore.ops.scan import Scanned


class Products:
    """The products that an adapter adds, by the tensor that each is added to.

    Args:
        directory: of a PEFT adapter.
        scanned: the files of the merged model.

    Attributes:
        unknown: the weights that no tensor of the model goes by the name of.

    Raises:
        NotFoundError: there is no adapter, or only a pickled one.
        UsageError: it is no plain LoRA.
        IntegrityError: its files are damaged.
    """

    def __init__(self, directory: Path, scanned: Sequence[Scanned]) -> None:
        self._weights = directory / WEIGHTS
        names = frozenset(tensor.name for span in _spans(scanned) for tensor in span.tensors)
        self._adapted: dict[str, Adapted] = {}
        self.unknown: list[str] = []
        for adapted in read_adapter(directory):
            name = adapted.name_among(names)
            if name is None:
                self.unknown.append(adapted.weight)
            else:
                self._adapted[name] = adapted

    def of(self, span: BlobSpan) -> Product | None:
        """Return what was added to the tensor in ``span``, None where that is not known.

        Raises:
            ConflictError: the adapter's file became shorter.
        """
        if len(span.tensors) != 1 or span.tensors[0].view is not None:
            return None
        adapted = self._adapted.get(span.tensors[0].name)
        if adapted is None or tuple(span.tensors[0].shape) != adapted.shape:
            return None
        with FileSource(self._weights) as source:
            if source.size < max(adapted.left.stop, adapted.right.stop):
                raise ConflictError(
                    f"'{self._weights}' changed while it was being committed",
                    "commit again when it is whole",
                )
            left, right = (source.read(x.start, x.stop) for x in (adapted.left, adapted.right))
        return Product(left, right, adapted.recipe)


def _spans(scanned: Sequence[Scanned]) -> Iterable[BlobSpan]:
    for item in scanned:
        yield from item.entry.spans
