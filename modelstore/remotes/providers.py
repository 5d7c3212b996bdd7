"""Where object stores get their settings from: the address, the environment, and the usual files.

obstore reads the environment, the files of Google and the metadata services of all three clouds by
itself, but not `~/.aws`; that is read here.
What the address says goes before what the environment says, and that before the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelstore.errors import RemoteError
from modelstore.remotes.address import Address
from modelstore.remotes.cloud import CloudRemote, Tagging
from modelstore.remotes.retry import TRIES

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CONNECT = timedelta(seconds=10)
_REQUEST = timedelta(minutes=10)
_SILENCE = timedelta(seconds=60)
"""A connection over which nothing comes for so long is broken."""

_PATIENCE = {"max_retries": 5, "retry_timeout": timedelta(minutes=4)}
_NONE = {"max_retries": 0}


def cloud_remote(
    address: Address, environment: Mapping[str, str], tries: int = TRIES
) -> CloudRemote:
    """Return the bucket, or the part of one, at ``address``; nothing is asked of it yet.

    Args:
        address: with the scheme "s3", "gs" or "az".
        environment: variables, as in `os.environ`.
        tries: how often a request is made at most.

    Raises:
        RemoteError: the settings contradict themselves.
        ImportError: obstore is not installed.
    """
    make = {"s3": _s3, "gs": _gs, "az": _az}[address.scheme]
    try:
        store = make(address, environment, _NONE)
        patient = make(address, environment, _PATIENCE)
    except ImportError:
        raise
    except Exception as error:  # obstore's own, and ValueError; its text may quote settings
        raise RemoteError(
            f"the settings of '{address.shown}' do not fit together ({type(error).__name__})",
            "see `mstore help remote` for the variables and files",
        ) from None
    return CloudRemote(store, patient, address.shown, _TAGGING[address.scheme], tries)


_TAGGING = {"s3": Tagging.BARE, "gs": Tagging.VERSION, "az": Tagging.QUOTED}


def _s3(address: Address, environment: Mapping[str, str], retries: Any) -> ObjectStore:
    from obstore.store import S3Store

    config = s3_settings(address.options, environment)
    endpoint = config.get("endpoint", "")
    config["unsigned_payload"] = not endpoint.startswith("http:")  # TLS says that it is whole
    return S3Store(
        address.place,
        prefix=address.path or None,
        config=config,
        client_options=_client(endpoint),
        retry_config=retries,
    )


def _gs(address: Address, _: Mapping[str, str], retries: Any) -> ObjectStore:
    from obstore.store import GCSStore

    return GCSStore(
        address.place,
        prefix=address.path or None,
        client_options=_client(""),
        retry_config=retries,
    )


def _az(address: Address, environment: Mapping[str, str], retries: Any) -> ObjectStore:
    from obstore.store import AzureStore

    named = {
        "account_name": _first(
            address.options, environment, "account", "AZURE_STORAGE_ACCOUNT_NAME"
        ),
        "account_key": environment.get("AZURE_STORAGE_ACCOUNT_KEY", ""),
        "sas_key": environment.get("AZURE_STORAGE_SAS_KEY", ""),
        "endpoint": _first(address.options, environment, "endpoint", "AZURE_STORAGE_ENDPOINT"),
    }
    config: Any = {name: value for name, value in named.items() if value}
    return AzureStore(
        address.place,
        prefix=address.path or None,
        config=config,
        client_options=_client(named["endpoint"]),
        retry_config=retries,
    )


def _client(endpoint: str) -> Any:
    return {
        "allow_http": urlsplit(endpoint).scheme == "http",  # only where the user wrote it
        "connect_timeout": _CONNECT,
        "read_timeout": _SILENCE,
        "timeout": _REQUEST,
    }


def _first(
    options: Mapping[str, str], environment: Mapping[str, str], option: str, *variables: str
) -> str:
    values = [options.get(option, ""), *(environment.get(name, "") for name in variables)]
    return next((value for value in values if value), "")


# --- Amazon's settings


def s3_settings(options: Mapping[str, str], environment: Mapping[str, str]) -> Any:
    """Return the settings of an S3 client, as obstore names them.

    Credentials that are found neither in the environment nor in `~/.aws` are left to obstore, which
    asks the metadata services of AWS.
    """
    files = _aws_files(options, environment)
    named = {
        "endpoint": _first(
            options,
            environment,
            "endpoint",
            "AWS_ENDPOINT_URL_S3",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT",
        )
        or files.get("endpoint_url", ""),
        "region": _first(options, environment, "region", "AWS_REGION", "AWS_DEFAULT_REGION")
        or files.get("region", "us-east-1"),
        **_s3_credentials(options, environment, files),
    }
    if options.get("addressing") == "virtual":
        named["virtual_hosted_style_request"] = "true"
    return {name: value for name, value in named.items() if value}


def _s3_credentials(
    options: Mapping[str, str], environment: Mapping[str, str], files: Mapping[str, str]
) -> dict[str, str]:
    if "profile" not in options and environment.get("AWS_ACCESS_KEY_ID"):
        return {
            "access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "secret_access_key": environment.get("AWS_SECRET_ACCESS_KEY", ""),
            "session_token": environment.get("AWS_SESSION_TOKEN", ""),
        }
    return {
        "access_key_id": files.get("aws_access_key_id", ""),
        "secret_access_key": files.get("aws_secret_access_key", ""),
        "session_token": files.get("aws_session_token", ""),
    }


def _aws_files(options: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return what `~/.aws/config` and `~/.aws/credentials` say of the profile.

    Their format: "Configuration and credential file settings", AWS CLI User Guide.
    """
    home = Path(environment.get("HOME") or environment.get("USERPROFILE") or "/nonexistent", ".aws")
    profile = _first(options, environment, "profile", "AWS_PROFILE") or "default"
    section = profile if profile == "default" else f"profile {profile}"
    config = _section(Path(environment.get("AWS_CONFIG_FILE") or home / "config"), section)
    shared = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials")
    return {**config, **_section(shared, profile)}


def _section(path: Path, name: str) -> dict[str, str]:
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, ConfigError, UnicodeDecodeError) as error:
        raise RemoteError(f"cannot read '{path}' ({type(error).__name__})") from None
    return dict(parser[name]) if parser.has_section(name) else {}
