"""The part of the Python API that is about other places: remotes, push, fetch, pull, backups."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType

from modelstore.errors import UsageError
from modelstore.names import parse_model
from modelstore.ops import backup as backing_up
from modelstore.ops import fetch as fetching
from modelstore.ops import pull as pulling
from modelstore.ops import push as pushing
from modelstore.ops import remotes as places
from modelstore.ops import restore as restoring
from modelstore.ops import restore_files as restoring_files
from modelstore.ops.backup_place import destination as opened_destination
from modelstore.store import Store

Environment = Mapping[str, str]
"""Variables, as in `os.environ`."""

NOTHING: Environment = MappingProxyType({})


class RemoteVerbs:
    """What a `ModelStore` does with remotes.

    ``environment`` gives the variables that hold credentials; a lazy clone goes on using them.
    """

    store: Store

    def remotes(self) -> list[places.Known]:
        """Return the remotes that the store knows by name."""
        return places.known(self.store)

    def add_remote(
        self, name: str, url: str, *, encrypt: bool = False, environment: Environment = NOTHING
    ) -> places.Known:
        """Give a place elsewhere a name, after trying whether registries are safe there.

        Args:
            encrypt: seal all that is put there, with MSTORE_PASSPHRASE or MSTORE_KEY_FILE of
                ``environment``.

        Raises:
            ConflictError: another remote has the name.
            RemoteError: the place cannot be reached, or would lose pushes.
        """
        self._use(environment)
        return places.add(self.store, name, url, encrypt=encrypt)[0]

    def push(
        self,
        remote: str = "",
        *models: str,
        dry_run: bool = False,
        environment: Environment = NOTHING,
    ) -> list[pushing.Pushed]:
        """Send models, all where none is named, to a remote, or to "origin".

        Args:
            dry_run: find out what would be sent, and change nothing.

        Raises:
            ConflictError: the remote has changes that are not here: `pull` first.
            IntegrityError: a blob is damaged here; registries that need it were not moved.
            RemoteError: the remote failed.
        """
        self._use(environment)
        with places.opened(self.store, remote) as place:
            names = [parse_model(model) for model in models]
            done = pushing.push(self.store, place, names, dry_run=dry_run)
        for one in done:
            if one.error is not None:
                raise one.error
        return done

    def fetch(
        self,
        remote: str = "",
        *models: str,
        dry_run: bool = False,
        environment: Environment = NOTHING,
    ) -> list[fetching.Fetched]:
        """Bring what a remote has, and change no model.

        Args:
            dry_run: find out what would come, and change nothing.
        """
        self._use(environment)
        names = [parse_model(model) for model in models]
        with places.opened(self.store, remote) as place:
            return fetching.fetch(self.store, place, names, dry_run=dry_run)

    def pull(
        self,
        remote: str = "",
        *models: str,
        rebase: bool = False,
        dry_run: bool = False,
        environment: Environment = NOTHING,
    ) -> list[pulling.Pulled]:
        """Bring what a remote has, and take it over.

        Args:
            rebase: where a model was changed here and there, put our changes on top of theirs.
            dry_run: find out what would be done, and change nothing.

        Raises:
            ConflictError: it was, and nobody said so.
            IntegrityError: what came is not what it should be; nothing was taken over.
            RemoteError: the remote failed.
        """
        self._use(environment)
        names = [parse_model(model) for model in models]
        with places.opened(self.store, remote) as place:
            return pulling.pull(self.store, place, names, rebase=rebase, dry_run=dry_run)

    # --- backups

    def backup(
        self, destination: str, *, verify: str = "new", environment: Environment = NOTHING
    ) -> backing_up.BackedUp:
        """Back up the whole store; only what is new there moves.

        Args:
            destination: a remote's name, or an address.
            verify: read back "new" sizes only, a "sample" of what is new, or "all".
            environment: variables that may hold credentials, and the key of an encrypted one.

        Returns:
            the backup, which is not complete where the store has lost something.
        """
        try:
            how = backing_up.Verify(verify)
        except ValueError as error:
            raise UsageError(f"backup: {error}", "say new, sample or all") from error
        said = {**self.store.environment, **environment}
        with opened_destination(self.store, destination, said, create=True) as remote:
            return backing_up.backup(self.store, remote, verify=how)

    def restore(
        self,
        source: str,
        *refs: str,
        at: str = "",
        rebase: bool = False,
        files: bool = False,
        environment: Environment = NOTHING,
    ) -> restoring.Restored:
        """Bring back models and versions from a backup, or everything; nothing is overwritten.

        Args:
            source: a remote's name, or an address.
            at: the backup's name, or a time by which it began; "" for the newest.
            rebase: versions whose number is taken get the next free one.
            files: write their files out, too, into their own directories.
            environment: as for `backup`.

        Raises:
            NotFoundError: there is no such backup or version.
            ConflictError: a number is taken, or a model has another history here.
        """
        said = {**self.store.environment, **environment}
        with opened_destination(self.store, source, said) as remote:
            root = self.store.root
            plan = restoring.plan_restore(remote, root, refs, at=at, rebase=rebase)
            return restoring.restore(remote, plan, files=files)

    def restore_files(
        self,
        source: str,
        ref: str,
        directory: str | PathLike[str],
        *,
        at: str = "",
        environment: Environment = NOTHING,
    ) -> restoring_files.FilesPlan:
        """Write the files of one version from a backup to a directory, which becomes no store.

        Args:
            source, at, environment: as for `restore`.
            ref: the version.
            directory: one that does not exist, or has nothing but files of the version.

        Returns:
            what was written; every byte was checked.

        Raises:
            NotFoundError: there is no such backup or version.
            ConflictError: something else is in the directory.
        """
        said = {**self.store.environment, **environment}
        with opened_destination(self.store, source, said) as remote:
            plan = restoring_files.plan_files(remote, Path(directory), ref, at=at)
            restoring_files.restore_files(remote, plan)
        return plan

    def _use(self, environment: Environment) -> None:
        self.store.environment = {**self.store.environment, **environment}
