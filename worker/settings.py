"""What a process reads from its environment: every variable, once, checked, with its remedy."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "REINMAX_"
HIDDEN = "(hidden)"
Source = Literal["default", "environment", "argument"]


class InvalidSettings(Exception):
    """A variable of the environment does not hold what is expected of it."""


class InvalidKeyFile(Exception):
    """The file of API keys cannot be read or made, or holds a line that is no key."""


class Setting(NamedTuple):
    """One variable as it may be shown to anybody: secrets are hidden in `value`."""

    variable: str
    value: str
    source: Source
    description: str


def _split(value: object) -> object:
    return [part for part in re.split(r"[\s,]+", value) if part] if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _absolute(path: Path) -> Path:
    # A child process may work in another folder; the path has to mean the same there.
    return path.expanduser().absolute()


def _redis_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.port == 0:
        raise ValueError("expected redis://[user][:password@]host[:port][/database], or rediss:// for TLS")
    return url


def _service_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected http://host[:port] or https://host[:port]")
    return url.rstrip("/")


def _api_key(key: SecretStr) -> SecretStr:
    # The bounds of what an Authorization header can carry, and of what can be guessed.
    if not re.fullmatch(r"[!-+\--~]{8,256}", key.get_secret_value()):
        raise ValueError("expected keys of 8 to 256 visible ASCII characters without commas")
    return key


def _xdg(variable: str, fallback: str) -> Path:
    # The XDG base directory specification asks to ignore relative paths.
    folder = Path(os.environ.get(variable, ""))
    return (folder if folder.is_absolute() else Path.home() / fallback) / "reinmax"


Folder = Annotated[Path, AfterValidator(_absolute)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Keys = Annotated[tuple[Annotated[SecretStr, AfterValidator(_api_key)], ...], NoDecode, BeforeValidator(_split)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)]
Url = Annotated[str, AfterValidator(_redis_url)]
ServiceUrl = Annotated[str, AfterValidator(_service_url)]


class Settings(BaseSettings):
    """The settings of API, worker, launcher and client: `REINMAX_` and the field's name in capitals.

    No other code reads the environment. A variable that is set but empty counts as unset, as Compose
    files write it.

    Raises:
        InvalidSettings: a variable has a value that does not fit; the message names all of them.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    redis_url: Url | None = Field(default=None, repr=False)
    """Redis 6.2 or newer, or Valkey, as redis://:password@host:port/database. Unset: a server of our own is started."""

    state_dir: Folder = Field(default_factory=lambda: _xdg("XDG_STATE_HOME", ".local/state"))
    """Folder of what must survive a restart: the data of the embedded server, artefacts, keys."""

    data_dir: Folder = Field(default_factory=lambda: _xdg("XDG_DATA_HOME", ".local/share"))
    """Folder of downloaded data sets; looked into before anything is fetched."""

    data_mirror: Words = ()
    """URLs or folders to fetch data sets from before their published addresses, separated by spaces or commas."""

    artifacts_url: str = Field(default_factory=lambda checked: str(checked["state_dir"] / "artifacts"), min_length=1)
    """Where checkpoints and results are kept: a folder, or any URL fsspec knows. The same for API and workers."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address the API listens on; beyond loopback it asks every request for a key."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port the API listens on; 0 takes a free one."""

    api_keys: Keys = ()
    """Keys the API accepts, separated by commas. Unset: those in REINMAX_API_KEYS_FILE."""

    api_keys_file: Folder = Field(default_factory=lambda checked: checked["state_dir"] / "api-keys")
    """File of the keys the API accepts, one a line, used where REINMAX_API_KEYS is unset."""

    lease_s: float = Field(default=15.0, ge=0.5, le=3600.0)
    """Seconds without a sign of life after which a worker counts as lost and its job is queued again."""

    checkpoint_interval_s: float = Field(default=60.0, gt=0.0, le=86_400.0)
    """Seconds of training between two checkpoints: at most so much work is lost with a worker."""

    cancel_grace_s: float = Field(default=30.0, ge=0.0, le=3600.0)
    """Seconds a training process has to save a checkpoint and end before it is killed."""

    replicas: int = Field(default=16, ge=1, le=128)
    """How many jobs a worker trains side by side at most, where they differ in seed, learning rate and tau alone."""

    keep_days: float | None = Field(default=None, gt=0.0, le=36_500.0)
    """Days after their end when jobs are removed, with their files. Unset: they are kept."""

    keep_jobs: int | None = Field(default=None, ge=1)
    """How many jobs are kept after their end; the oldest are removed, with their files. Unset: all are kept."""

    sweep_limit: int = Field(default=10_000, ge=1, le=30_000)
    """How many jobs a sweep may have."""

    url: ServiceUrl | None = None
    """Service that the command line and the Python client talk to. Unset: the one running on this machine."""

    api_key: Annotated[SecretStr, AfterValidator(_api_key)] | None = None
    """Key that the command line and the Python client send; one of those the API accepts."""

    log_level: LogLevel = "info"
    """What is logged: debug, info, warning, error or critical."""

    @property
    def is_on_loopback(self) -> bool:
        """Whether only programs on this machine can reach the API at `host`."""
        return is_loopback(self.host)

    def overview(self) -> Iterator[Setting]:
        """Every setting with its value, fit to be shown or sent to others, and where the value came from."""
        from_environment = {variable.upper() for variable, value in os.environ.items() if value}
        for name, field in type(self).model_fields.items():
            variable = _variable(name)
            given: Source = "environment" if variable in from_environment else "argument"
            source: Source = given if name in self.model_fields_set else "default"
            yield Setting(variable, _shown(name, getattr(self, name)), source, field.description or "")

    def for_child(self) -> dict[str, str]:
        """The environment in which a child process finds these settings, secrets included."""
        given = {_variable(name): _written(getattr(self, name)) for name in self.model_fields_set}
        return {**os.environ, **given}

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_variable(cls, values: Mapping[str, object], check: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return check(values)
        except ValidationError as error:
            # Not chained: the original would print the values, secrets included.
            raise InvalidSettings(_explain(error, values)) from None


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    with suppress(ValueError):
        return ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def read_api_keys(settings: Settings) -> tuple[SecretStr, ...]:
    """The keys that exist: those of `REINMAX_API_KEYS`, else the lines of the key file, else none.

    Raises:
        InvalidKeyFile: the file cannot be read or a line of it is no key.
    """
    if settings.api_keys:
        return settings.api_keys
    try:
        lines = settings.api_keys_file.read_text().splitlines()
        return tuple(_api_key(SecretStr(line.strip())) for line in lines if line.strip())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise InvalidKeyFile(f"{_key_file_rule(settings)}, but: {error}. {_KEY_FILE_REMEDY}") from None


def load_api_keys(settings: Settings) -> tuple[SecretStr, ...]:
    """The keys that exist, and where there is none a random one, kept in the key file with mode 0600.

    Processes that call this at the same moment get the same key.

    Raises:
        InvalidKeyFile: the file cannot be read or made, or it holds no key.
    """
    if not read_api_keys(settings):
        _create_key_file(settings)
    keys = read_api_keys(settings)
    if not keys:
        raise InvalidKeyFile(f"{_key_file_rule(settings)}, but it is empty. {_KEY_FILE_REMEDY}")
    return keys


_KEY_FILE_REMEDY = "Write a key into it, remove it to have one made, or set REINMAX_API_KEYS."


def _key_file_rule(settings: Settings) -> str:
    return f"REINMAX_API_KEYS_FILE names {settings.api_keys_file}, a readable file with one key a line"


def _create_key_file(settings: Settings) -> None:
    target = settings.api_keys_file
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=target.parent) as draft:  # made with mode 0600
            draft.write(f"reinmax_{secrets.token_urlsafe(32)}\n")
            draft.flush()
            # A link, unlike a rename, never replaces a key that another process has just handed out.
            with suppress(FileExistsError):
                os.link(draft.name, target)
    except OSError as error:
        raise InvalidKeyFile(
            f"{_key_file_rule(settings)}, but it cannot be made: {error}. {_KEY_FILE_REMEDY}"
        ) from None


def _explain(error: ValidationError, values: Mapping[str, object]) -> str:
    # A default that is computed from a refused value is a consequence, not a mistake of its own.
    mistakes = [mistake for mistake in error.errors() if mistake["type"] != "default_factory_not_called"]
    messages = {str(mistake["loc"][0]): mistake["msg"] for mistake in mistakes}
    return "\n".join(_sentence(name, values.get(name), message) for name, message in messages.items())


def _sentence(name: str, value: object, message: str) -> str:
    field = Settings.model_fields.get(name)
    if field is None:
        return f"Settings has no field {name!r}. Known are: {', '.join(Settings.model_fields)}."
    return (
        f"{_variable(name)} is {_shown(name, value)!r}: {message.removeprefix('Value error, ')}. "
        f"It means: {field.description} Correct the variable, or unset it for the default."
    )


def _variable(name: str) -> str:
    return f"{PREFIX}{name}".upper()


def _written(value: object) -> str:
    """The value as `Settings` reads it from a variable; None as an empty variable, which counts as unset."""
    if isinstance(value, tuple):
        return " ".join(map(_written, value))
    return value.get_secret_value() if isinstance(value, SecretStr) else "" if value is None else str(value)


def _shown(name: str, value: object) -> str:
    if name in ("api_keys", "api_key"):
        return HIDDEN if value else "none"
    if name == "redis_url" and value and "://" not in str(value):
        return HIDDEN  # whatever it is, it may hold a password
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return re.sub(r"(\w+://)\S*@", r"\1***@", text) if value not in (None, ()) else "none"
