"""Settings, read once from the environment and `.env`; every name begins with `MNEMO_`.

Settings of providers follow a pattern, so that a new provider needs no change here:
`MNEMO_<PROVIDER>_URL` replaces its address, `MNEMO_<PROVIDER>_API_KEY` holds its key, `MNEMO_<PROVIDER>_LIMITS`
(such as `75/min`) replaces the limits that are declared for it, where a contract allows more.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse.errors import SettingsError

_PREFIX = "MNEMO_"
_EMBEDDED = "s3://lake/"
_PROVIDER_SETTING = re.compile(r"MNEMO_[A-Z0-9_]+_(URL|API_KEY|LIMITS)")
_ALERT_SECRET = re.compile(r"MNEMO_ALERT_[A-Z0-9_]+")
"""What the file of `MNEMO_ALERTS` refers to; any other variable will do as well."""


class Settings(BaseSettings):
    """All settings but those of providers, with their defaults."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(
        Path(".mnemo"), description="Folder for local state: the embedded S3 server, Prefect's database."
    )
    lake: str = Field("s3://lake/mnemo", description="Where the tables are: s3://bucket/prefix, or a folder.")
    s3_endpoint: str = Field(
        "", description="S3 endpoint; empty with no keys set: the embedded server is started."
    )
    s3_access_key: str = Field("", description="S3 access key.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key.")
    s3_region: str = Field("us-east-1", description="S3 region.")
    offline: bool = Field(
        default=False, description="1: every provider is replayed from recordings by the offline twin."
    )
    twin_url: str = Field(
        "", description="Address of a running offline twin that stands in for every provider."
    )
    limits: Literal["providers", "everywhere"] = Field(
        "providers",
        description="Where the providers' limits are kept: providers: at their own addresses; everywhere: also at"
        " a twin and at addresses of your own.",
    )
    recordings: Path | None = Field(
        None, description="Recordings of the offline twin; empty: those of the package."
    )
    watchlist: Path | None = Field(
        None, description="YAML file of what the daily run fetches; empty: the package's."
    )
    retention_days: int = Field(
        7, ge=1, description="How far back time travel goes: upkeep keeps files and log entries this long."
    )
    engine: str = Field(
        "local",
        pattern=r"^(local|dask|dask://[^/]+:\d+)$",
        description="Where promotions and backfills run: local; dask: a Dask cluster on this machine;"
        " dask://host:port: that cluster.",
    )
    docs_url: str = Field(
        "",
        pattern=r"^(https?://[^@\s]+)?$",
        description="Where people read the lake's folder `docs/` (Data Docs) over HTTP; links of runs go there.",
    )
    docs_retention_days: int = Field(
        90,
        ge=1,
        description="How long Data Docs pages are kept; the newest of each table and those of held batches stay.",
    )
    metrics_file: Path | None = Field(
        None,
        description="Prometheus text file that each run replaces, for node_exporter's textfile collector.",
    )
    metrics_push_url: str = Field(
        "",
        pattern=r"^(https?://[^@\s]+)?$",
        description="Address of a Prometheus Pushgateway that each run tells its figures.",
    )
    alerts: Path | None = Field(
        None, description="YAML file of whom alerts go to (docs/alerts.md); empty: they are recorded only."
    )
    providers: dict[str, SecretStr] = Field(default_factory=dict, exclude=True)

    @property
    def is_s3(self) -> bool:
        """Whether the lake is on an object store, not in a folder."""
        return self.lake.startswith("s3://")

    @property
    def uses_embedded_s3(self) -> bool:
        """Whether no S3 server is named, so that ours is started."""
        return self.is_s3 and not (
            self.s3_endpoint or self.s3_access_key or self.s3_secret_key.get_secret_value()
        )

    def provider_url(self, provider: str, default: str) -> str:
        """Base address of a provider's host: `MNEMO_<PROVIDER>_URL`, else under the twin, else the real one."""
        override = self.providers.get(f"{_PREFIX}{provider}_URL")
        if override:
            return override.get_secret_value().rstrip("/")
        if self.twin_url:
            parts = urlsplit(default)
            return f"{self.twin_url.rstrip('/')}/{parts.netloc}{parts.path}".rstrip("/")
        return default.rstrip("/")

    def keeps_limits(self, provider: str, default: str) -> bool:
        """Whether a provider's limits hold where its requests go: at its own address, or everywhere."""
        return self.limits == "everywhere" or self.provider_url(provider, default) == default.rstrip("/")

    def provider_limits(self, provider: str) -> str:
        """What `MNEMO_<PROVIDER>_LIMITS` says; empty where it is not set."""
        return self.key(f"{_PREFIX}{provider}_LIMITS")

    def key(self, setting: str) -> str:
        """The key held by a setting such as `MNEMO_FRED_API_KEY`; empty where it is not set."""
        held = self.providers.get(setting)
        return held.get_secret_value() if held else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret value, for redaction."""
        keys = [held.get_secret_value() for name, held in self.providers.items() if name.endswith("_API_KEY")]
        return tuple(secret for secret in (*keys, self.s3_secret_key.get_secret_value()) if secret)


def load_settings() -> Settings:
    """Read and check all settings. Raises SettingsError naming every one that is unknown or wrong."""
    named = {name: value for name, value in environment().items() if name.startswith(_PREFIX)}
    _refuse_unknown(named)
    providers = {
        name: SecretStr(value) for name, value in named.items() if _PROVIDER_SETTING.fullmatch(name) and value
    }
    for name, value in providers.items():
        if name.endswith("_URL") and urlsplit(value.get_secret_value()).scheme not in {
            "http",
            "https",
            "ws",
            "wss",
        }:
            raise SettingsError(f"{name} must begin with http:// or https://")
    try:
        settings = Settings(providers=providers)
    except ValidationError as error:
        wrong = "; ".join(f"{_PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise SettingsError(wrong) from None
    _refuse_half_set(settings)
    return settings


def environment() -> dict[str, str | None]:
    """The variables of the environment, and those of `.env` that it does not set."""
    return {**dotenv_values(".env"), **os.environ}


def _refuse_unknown(named: dict[str, str | None]) -> None:
    known = {f"{_PREFIX}{field.upper()}" for field in Settings.model_fields if field != "providers"}
    for name in sorted(named):
        is_ours = name in known or _PROVIDER_SETTING.fullmatch(name) or _ALERT_SECRET.fullmatch(name)
        if not is_ours and not name.startswith("MNEMO_TEST_"):
            near = difflib.get_close_matches(name, known, n=2)
            raise SettingsError(
                f"unknown setting {name}" + (f"; did you mean {' or '.join(near)}?" if near else "")
            )


def _refuse_half_set(settings: Settings) -> None:
    """Without keys the S3 client would ask the cloud's metadata address and hang: fail here instead."""
    if not settings.is_s3:
        return
    if settings.uses_embedded_s3:
        if not settings.lake.startswith(_EMBEDDED):
            raise SettingsError(
                f"MNEMO_LAKE is {settings.lake}, but no MNEMO_S3_* is set; the embedded server has {_EMBEDDED} only"
            )
        return
    missing = [
        name
        for name, value in (
            ("MNEMO_S3_ACCESS_KEY", settings.s3_access_key),
            ("MNEMO_S3_SECRET_KEY", settings.s3_secret_key.get_secret_value()),
        )
        if not value
    ]
    if missing:
        raise SettingsError(f"an S3 store is named, but {' and '.join(missing)} is not set")
