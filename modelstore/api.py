"""The Python API: a store as one object, whose methods are the verbs of the command line.

    import modelstore

    store = modelstore.open("tuned_models")
    store.commit("run/checkpoint", "llama_1b", message="two epochs more")
    weights = store.load("llama_1b@ACTIVE")

Refs are those of the command line; a bare one must fit a single model, or the default one.
Errors are kinds of `modelstore.errors.StoreError`. Nothing is printed, and no environment is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from modelstore import disk
from modelstore.api_layouts import LayoutVerbs
from modelstore.api_remotes import NOTHING, Environment, RemoteVerbs
from modelstore.errors import UsageError
from modelstore.names import parse_model
from modelstore.ops import checkout as checking_out
from modelstore.ops import clone as cloning
from modelstore.ops import commit as committing
from modelstore.ops import diff as diffing
from modelstore.ops import fsck as checking
from modelstore.ops import gc as collecting
from modelstore.ops import history, pointer, present, read
from modelstore.ops import mend as mending
from modelstore.ops import rm as removing
from modelstore.ops import undelete as undeleting
from modelstore.ops import usage as using
from modelstore.ops import verify as verifying
from modelstore.ops.doctor import Diagnosis, doctor
from modelstore.ops.findings import Checked
from modelstore.ops.resolve import Context, Resolved, resolve, resolve_model
from modelstore.ops.retention import Policy, parse_age, parse_best
from modelstore.ops.writing import write_file
from modelstore.store import Store, find
from modelstore.values import NumpyArrays

Framework = Literal["numpy", "torch"]
"""The library whose arrays are wanted."""

PathLike = str | Path

Patterns = str | Sequence[str]
"""Shell patterns of files, as in "*.json"; () for all files."""

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
"""What `from_pretrained` takes tensors from; GGUF files hold the same ones under other names."""


def open_store(path: PathLike | None = None) -> ModelStore:
    """Open a store.

    Args:
        path: where it is looked for, None for the current directory: that directory itself, one
            above it, or a `tuned_models` in one of these.

    Raises:
        NoStoreError: there is none.
        NewerFormatError: it was made by a newer mstore.
    """
    return ModelStore(Store(find(Path.cwd() if path is None else Path(path))))


def clone_store(
    url: str,
    path: PathLike,
    *models: str,
    lazy: bool = False,
    environment: Environment = NOTHING,
) -> ModelStore:
    """Make a new store of what a remote has.

    Args:
        url: the remote's address.
        path: a directory that does not exist, or is empty.
        models: those that are wanted; all where none is named.
        lazy: bring weights only when a version is read.
        environment: variables that may hold credentials, as in `os.environ`.

    Raises:
        ConflictError: there is something at ``path``.
        NotFoundError: there is no store at ``url``.
        IntegrityError, RemoteError: what came is damaged; the remote failed.
    """
    names = [parse_model(model) for model in models]
    done = cloning.clone(url, Path(path), names, lazy=lazy, environment=environment)
    return ModelStore(done.store)


class ModelStore(LayoutVerbs, RemoteVerbs):
    """A store of models and their versions.

    Attributes:
        store: what the functions of `modelstore.ops` take.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __repr__(self) -> str:
        return f"ModelStore({str(self.store.root)!r})"

    # --- versions

    def models(self) -> list[str]:
        """Return the names of the models."""
        return [str(model) for model in self.store.models()]

    def resolve(self, ref: str = "ACTIVE") -> Resolved:
        """Return the version that ``ref`` means: its model, and its entry in the registry.

        Raises:
            NotFoundError: no version has that name.
            AmbiguousError: several have.
        """
        return resolve(self.store, ref)

    def log(self, ref: str = "", *, limit: int | None = None) -> list[dict[str, Any]]:
        """Return versions as plain values, newest first; the rows of ``mstore log --json``.

        Args:
            ref: a version, for it and what it descends from; a model, for its versions; "" for all.
            limit: at most this many in all, the newest.
        """
        found = history.log(self.store, ref, limit=limit)
        return [one.description.row(entry) for one in found for entry in one.entries]

    def commit(
        self,
        path: PathLike,
        model: str,
        message: str = "",
        *,
        adapter: PathLike | None = None,
        **options: Any,
    ) -> committing.Committed:
        """Make the directory or file at ``path`` the next version of ``model``.

        Args:
            adapter: the directory of the PEFT adapter (a plain LoRA) that was merged into the
                files; where it saves bytes, the merged tensors are stored as their base and what
                the adapter adds to it.
            options: the further fields of `modelstore.ops.commit.CommitOptions`: parents, metrics,
                parameters, activate, ...

        Raises:
            UsageError: there is no such option, or the adapter is of a kind that cannot be followed.
            NotFoundError: nothing is at ``path``, or a parent or the adapter does not exist.
            ConflictError: the version exists, or a file changed while it was read.
        """
        try:
            chosen = committing.CommitOptions(
                message=message, adapter=None if adapter is None else Path(adapter), **options
            )
        except TypeError as error:
            raise UsageError(f"commit: {error}") from error
        return committing.commit(self.store, Path(path), parse_model(model), chosen)

    def checkout(
        self,
        ref: str = "ACTIVE",
        output: PathLike | None = None,
        *,
        files: Patterns = (),
        adapter: bool = False,
        force: bool = False,
    ) -> checking_out.CheckedOut:
        """Write the files of a version into its own directory, or into ``output``.

        Args:
            files: a shell pattern, or several; only the files that fit one.
            adapter: only the adapter that the version keeps, as a directory that PEFT can load.
            force: overwrite local changes.

        Raises:
            ConflictError: something would be overwritten.
            IntegrityError: a blob is damaged.
            NotFoundError: the version keeps no adapter.
            UsageError: both ``files`` and ``adapter``.
        """
        target = None if output is None else Path(output)
        if adapter:
            if files:
                raise UsageError("an adapter is written whole: leave out files")
            return checking_out.checkout_adapter(
                self.store, self.resolve(ref), output=target, force=force
            )
        return checking_out.checkout(
            self.store, self.resolve(ref), output=target, files=_listed(files), force=force
        )

    # --- removing

    def rm(self, *refs: str, force: bool = False, why: str = "") -> removing.Removed:
        """Remove versions; `undelete` brings them back until a gc has purged them.

        Args:
            force: also versions that were changed in their directories, or are trained from.

        Raises:
            ConflictError: one is ACTIVE, has an alias, or is in use.
        """
        versions = [self.resolve(ref) for ref in refs]
        return removing.rm(self.store, removing.plan_rm(self.store, versions, force=force), why=why)

    def undelete(self, ref: str, *, why: str = "") -> undeleting.Undeleted:
        """Bring back a removed version, by its number or the beginning of its id.

        Raises:
            NotFoundError: what it consisted of was purged.
        """
        resolved = undeleting.resolve_removed(self.store, ref)
        return undeleting.undelete(self.store, resolved, why=why)

    def gc(
        self,
        *,
        keep_last: int | None = None,
        keep_within: str = "",
        keep_best: Sequence[str] = (),
        purge_now: bool = False,
    ) -> collecting.Collected:
        """Take away what no version needs; with a policy, remove the versions that it does not keep.

        Args:
            keep_last: of every model, keep the newest so many versions.
            keep_within: keep those not older than this before the newest: "24h", "7d", "3w".
            keep_best: keep the best, as in "3:loss" or "1:accuracy:max".
            purge_now: empty the trash, too.

        Raises:
            IntegrityError: something cannot be read; nothing was taken away.
        """
        policy = Policy(
            keep_last,
            parse_age(keep_within) if keep_within else None,
            tuple(map(parse_best, keep_best)),
        )
        plan = collecting.plan_gc(self.store, policy, purge_now=purge_now)
        return collecting.gc(self.store, plan)

    # --- ACTIVE

    def active(self, model: str | None = None) -> Resolved:
        """Return the ACTIVE version of ``model``, which may be left out if there is only one."""
        return self.resolve(f"{self._model(model)}@ACTIVE")

    def set_active(self, ref: str, *, expect: str = "", why: str = "") -> pointer.Moved:
        """Make a version ACTIVE; refuse if ``expect`` is given and is not the ACTIVE one."""
        return pointer.set_active(self.store, self.resolve(ref), expect=expect, why=why)

    def rollback(self, model: str | None = None, *, steps: int = 1, why: str = "") -> pointer.Moved:
        """Make ACTIVE what it was ``steps`` moves ago."""
        return pointer.rollback(self.store, self._model(model), steps=steps, why=why)

    def _model(self, name: str | None) -> Any:
        return resolve_model(self.store, Context(parse_model(name) if name else None))

    # --- comparing and checking

    def diff(self, before: str, after: str = "ACTIVE") -> diffing.Difference:
        """Return how two versions differ: files, tensors, parameters, metrics.

        Args:
            after: a bare ref is one of the model of ``before``.
        """
        old = self.resolve(before)
        return diffing.diff(self.store, old, resolve(self.store, after, Context(old.model)))

    def verify(self, ref: str = "ACTIVE") -> verifying.Verified:
        """Check every byte of a version; what is wrong is in the result's ``problems``."""
        return verifying.verify(self.store, self.resolve(ref))

    def fsck(self, level: str = "default", *, repair: bool = False) -> Checked:
        """Check the whole store; what is wrong is in the result's ``problems``.

        Args:
            level: "quick", "default", or "full", which reads and decodes every byte.
            repair: put right what can be put right; nothing is deleted.
        """
        try:
            chosen = checking.Level(level)
        except ValueError as error:
            raise UsageError(f"fsck: {error}", "say quick, default or full") from error
        check = mending.repair if repair else checking.fsck
        return check(self.store, chosen)

    def doctor(self) -> list[Diagnosis]:
        """Return what is to be said of the environment, and of the place of the store."""
        return doctor(self.store)

    def usage(self) -> using.Usage:
        """Return what the store and each version cost on disk."""
        return using.usage(self.store)

    # --- content

    def read_file(self, ref: str, path: str) -> bytes:
        """Return a file of a version, as in ``read_file("v1.1", "config.json")``.

        Raises:
            NotFoundError: the version has no such file.
            IntegrityError: a blob is damaged.
        """
        return read.read_file(self.store, self.resolve(ref), path)

    def load(
        self,
        ref: str = "ACTIVE",
        framework: Framework = "numpy",
        *,
        raw: bool = False,
        files: Patterns = (),
    ) -> dict[str, Any]:
        """Return all tensors of a version by name, decoded straight from the store in parallel.

        Shards are merged; tied names share one array, all others have memory of their own. Where
        several files hold one name, safetensors goes before torch files, those before GGUF.
        Tensors of files in a subdirectory have its name before theirs, ``unet/conv_in.weight``.

        Args:
            framework: "torch" for tensors of exactly the dtypes that were saved; "numpy" for arrays,
                in which BF16 and 8-bit floats are float32, exactly, since numpy lacks them.
                Packed kinds (GGUF blocks, 4-bit floats) are uint8 in one dimension.
            raw: with numpy, leave BF16 and 8-bit floats as the uint16 or uint8 of their bits.
            files: a shell pattern, or several; only tensors of files that fit one.

        Raises:
            NotFoundError: no such version, no such file, or its content is not here; no weights
                that could be read as tensors.
            IntegrityError: a blob is damaged.
        """
        resolved = self.resolve(ref)
        present.require(self.store, resolved)
        manifest = self.store.manifest(resolved.model, resolved.entry)
        arrays = _arrays(framework, raw=raw)
        return read.load(self.store, manifest, arrays, _listed(files), ref=str(resolved))

    def reader(
        self,
        ref: str = "ACTIVE",
        framework: Framework = "numpy",
        *,
        raw: bool = False,
        files: Patterns = (),
    ) -> read.Reader:
        """Return a reader of single tensors and rows, used like `safetensors.safe_open`.

        Args:
            framework, raw, files: as for `load`.
        """
        resolved = self.resolve(ref)
        present.require(self.store, resolved)
        manifest = self.store.manifest(resolved.model, resolved.entry)
        arrays = _arrays(framework, raw=raw)
        return read.Reader(self.store, manifest, arrays, _listed(files), ref=str(resolved))

    def from_pretrained(self, ref: str = "ACTIVE", **options: Any) -> Any:
        """Return a version as a `PreTrainedModel` of transformers; weights are written nowhere.

        Args:
            options: for `from_pretrained` of transformers: dtype, device_map, ...

        Raises:
            UsageError: transformers has no class for the model, or it lacks tensors.
        """
        from modelstore.integrations.transformers import SMALL_FILES, load_model

        resolved = self.resolve(ref)
        weights = partial(self.load, str(resolved), "torch", files=_WEIGHTS)
        with self._written(resolved, SMALL_FILES) as directory:
            return load_model(weights, directory, **options)

    def tokenizer(self, ref: str = "ACTIVE") -> Any:
        """Return a version's tokenizer, a `PreTrainedTokenizerBase` of transformers."""
        from modelstore.integrations.transformers import SMALL_FILES, load_tokenizer

        with self._written(self.resolve(ref), SMALL_FILES) as directory:
            return load_tokenizer(directory)

    @contextmanager
    def _written(self, resolved: Resolved, files: Sequence[str]) -> Iterator[Path]:
        """Give a directory with some files of a version, which is gone afterwards.

        It is one of the system's: a store that may only be read is read all the same.
        """
        present.require(self.store, resolved)
        manifest = self.store.manifest(resolved.model, resolved.entry)
        wanted = [file for file in manifest.files if read.fits(file, files)]
        with TemporaryDirectory(prefix="mstore-") as temporary:
            for file in wanted:
                path = Path(temporary, file.path)
                disk.make_dir(path.parent)
                write_file(self.store, file, path)
            yield Path(temporary)


def _listed(files: Patterns) -> Sequence[str]:
    return (files,) if isinstance(files, str) else files


def _arrays(framework: str, *, raw: bool) -> read.Arrays:
    if framework == "numpy":
        return NumpyArrays(raw=raw)
    if framework != "torch":
        raise UsageError(f"there are no arrays of {framework!r}", 'say "numpy" or "torch"')
    if raw:
        raise UsageError("torch has every dtype: raw is for numpy", "leave raw out")
    from modelstore.integrations.tensors import TorchTensors

    return TorchTensors()
