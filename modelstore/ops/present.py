"""What a lazy clone lacks of a version comes when it is needed."""

from __future__ import annotations

from modelstore.blobs.closure import Closure
from modelstore.ops import tracking
from modelstore.ops.remotes import opened
from modelstore.ops.resolve import Resolved
from modelstore.ops.transfer import Brought, Expected, bring
from modelstore.progress import Progress, silent
from modelstore.store import Store


def require(store: Store, resolved: Resolved, progress: Progress = silent) -> Brought:
    """See to it that everything it takes to read a version is here, if the store is a lazy clone.

    Raises:
        RemoteError: the remote it was cloned from cannot be reached.
        IntegrityError: what comes from there is damaged.
    """
    name = tracking.lazy(store)
    if not name or resolved.id is None:
        return Brought()
    manifest = store.manifest(resolved.model, resolved.entry)
    sizes = {span.blob: span.size for file in manifest.files for span in file.spans}
    closure = Closure(store.blobs)
    if not closure.absent(closure.of([resolved.id, *sizes])):
        return Brought()
    with opened(store, name) as place:
        wanted = [resolved.id, *sizes]
        return bring(store, place.remote, wanted, progress, expected=Expected(sizes))
