"""Low rank: a merged LoRA as its base and the product that was added to it.

Searched for where nobody kept the adapter: the most thorough way to store a blob better, and the
slowest.
"""

from __future__ import annotations

from itertools import islice

from modelstore.blobs.reader import BlobReader
from modelstore.codecs.factors import Factors
from modelstore.hashing import Digest
from modelstore.numeric import as_bits
from modelstore.ops.repack_ways import Trial

_BASES = 3  # that are searched; most often the first one is what the merge was made from
_MOST = 1 << 27  # bytes of a blob that is held in memory, twice


def find_product(trial: Trial) -> tuple[BlobReader, Factors] | None:
    """Return a base and the factors of what was added to it; None where that was not a product.

    Holds the blob and a base in memory.
    """
    if not trial.columns or trial.size > _MOST or trial.reader.header.factors is not None:
        return None
    from modelstore.lowrank.find import find_factors  # loads numba

    values = None
    for base in islice(_same_kind(trial), _BASES):
        if values is None:
            values = as_bits(trial.read(0, trial.size), trial.dtype)
        raw = base.read_at_most(0, trial.size)
        factors = find_factors(values, as_bits(raw, trial.dtype), trial.dtype, trial.columns)
        if factors is not None:
            return base, factors
    return None


def _same_kind(trial: Trial) -> list[BlobReader]:
    """Return the possible bases of the same size and dtype, and what these are built on."""
    found: dict[Digest, BlobReader] = {}
    for candidate in trial.bases():
        for base in candidate.chain():
            same = base.header.raw_size == trial.size and base.header.dtype is trial.dtype
            if same and trial.may_be_built_on(base):
                found.setdefault(base.header.digest, base)
    return list(found.values())
