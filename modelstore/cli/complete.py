"""What the shell offers when a user presses tab: models, and refs."""

from __future__ import annotations

from collections.abc import Callable

import click

from modelstore.cli.settings import settings
from modelstore.errors import StoreError


def models(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the models that begin with what was typed."""
    return _offered(ctx, incomplete, _models)


def refs(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return versions, aliases and full refs that begin with what was typed."""
    return _offered(ctx, incomplete, _refs)


def removed(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the removed versions that begin with what was typed."""
    return _offered(ctx, incomplete, _removed)


def remotes(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the remotes that begin with what was typed."""
    return _offered(ctx, incomplete, _remotes)


def _remotes(ctx: click.Context) -> list[str]:
    from modelstore.ops.remotes import known

    return [one.name for one in known(settings(ctx).open())]


def _offered(
    ctx: click.Context, incomplete: str, offer: Callable[[click.Context], list[str]]
) -> list[str]:
    try:
        return [word for word in offer(ctx) if word.startswith(incomplete)]
    except (StoreError, OSError):
        return []  # a shell that is completing has no use for an error


def _models(ctx: click.Context) -> list[str]:
    return [str(model) for model in settings(ctx).open().models()]


def _removed(ctx: click.Context) -> list[str]:
    chosen = settings(ctx)
    store = chosen.open()
    only = chosen.model_name()
    words = []
    for model in store.models():
        names = list(map(str, store.state(model).removed()))
        words += names if only in (None, model) else []
        words += [f"{model}@{name}" for name in names]
    return sorted(set(words))


def _refs(ctx: click.Context) -> list[str]:
    chosen = settings(ctx)
    store = chosen.open()
    only = chosen.model_name()
    words = []
    for model in store.models():
        state = store.state(model)
        names = [*map(str, state.versions()), *state.aliases]
        names += ["ACTIVE"] if state.active else []
        names += ["latest"] if names else []
        words += names if only in (None, model) else []
        words += [f"{model}@{name}" for name in names]
    return sorted(set(words))
