"""HTTP for the providers: time-outs, limits, retries by kind of error, redaction. Knows no provider.

One `Client` serves one run. Retries happen here and nowhere else. Limits are kept by `sources.quota_ledger`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import httpx
import stamina
import structlog

from lakehouse.bronze import Page
from lakehouse.errors import SettingsError
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.errors import MissingKey, Permanent, QuotaExhausted, SourceError, Transient
from sources.quota import Limit, Quota, key_id, read_limits
from sources.quota_ledger import LONGEST_WAIT_S, QuotaLedger

log = structlog.get_logger()

Result = TypeVar("Result")

REDACTED = "REDACTED"
SYNTHETIC = "x-mnemo-synthetic"
"""The header of an answer that no provider ever gave: the offline twin made it up (`sources.twin.synthetic`)."""

_TRANSIENT = frozenset({408, 423, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_SHOWN_BYTES = 200
_TWIN_KEY = "the-offline-twin-needs-no-key"
_SHORTEST_UNMISTAKABLE = 8

# At INFO and DEBUG these log whole addresses and headers, keys included. Our own event says it without them.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host of a provider: scheme and host, no path. `name` makes `MNEMO_<name>_URL` and `MNEMO_<name>_LIMITS`.

    Limits and pace are the provider's own. They go by the key of `key_setting`, by our address where that is empty.
    """

    name: str
    url: str
    min_interval_s: float = 0.0
    limits: tuple[Limit, ...] = ()
    key_setting: str = ""

    def quota(self, settings: Settings) -> Quota:
        """What the host allows us; SettingsError where `MNEMO_<name>_LIMITS` cannot be read."""
        said = settings.provider_limits(self.name)
        try:
            limits = read_limits(said) if said else self.limits
        except ValueError as error:
            raise SettingsError(f"MNEMO_{self.name}_LIMITS: {error}") from None
        return Quota(
            provider=self.name.lower(),
            host=urlsplit(self.url).netloc,
            limits=limits,
            min_interval_s=0.0 if said else self.min_interval_s,
            key_id=key_id(settings.key(self.key_setting)),
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A complete HTTP answer; `url` is the provider's real address without secrets, wherever it came from."""

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime

    def page(self, *, feed: str, subject: str, window: Window | None, sequence: int, **context: Any) -> Page:
        """The bronze page of this answer; `context` is what the parser must know beside the body.

        That an answer is made up stays with its page: the request says `synthetic`.
        """
        marks = {"synthetic": True} if SYNTHETIC in self.headers else {}
        return Page(
            feed=feed,
            subject=subject,
            request={"method": self.method, "url": self.url, **marks, **context},
            received_at=self.received_at,
            body=self.body,
            window=window,
            sequence=sequence,
            http_status=self.status,
            content_type=self.headers.get("content-type"),
        )


@dataclass(eq=False)
class Client:
    """Sends requests for feeds. Close it, or use it as a context manager.

    `attempts` counts the first one. `timeout_s` is the longest silence: until connected (at most 10 s),
    and between two pieces of an answer. `ledger` counts requests, by default in the folder `quota` of MNEMO_HOME;
    `also_wait` is called before each request that it counts, for limits that others keep.
    """

    settings: Settings
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    attempts: int = 4
    timeout_s: float = 30.0
    ledger: InitVar[QuotaLedger | None] = None
    also_wait: Callable[[Quota, float], None] | None = None
    _http: httpx.Client = field(init=False, repr=False)
    _ledger: QuotaLedger = field(init=False, repr=False)

    def __post_init__(self, ledger: QuotaLedger | None) -> None:
        timeout = httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, 10.0))
        self._http = httpx.Client(timeout=timeout, follow_redirects=True)
        self._ledger = ledger or QuotaLedger(self.settings.home / "quota")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def key(self, setting: str, *, feed: str, url: str) -> str:
        """The key a feed needs; MissingKey names the setting and where to get one. The twin asks for none."""
        held = self.settings.key(setting)
        if not held and self.settings.twin_url:
            return _TWIN_KEY
        if not held:
            raise MissingKey(f"feed {feed} needs {setting}, which is not set; get a key at {url}")
        return held

    def get(
        self,
        host: Host,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        secrets: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        explain: Callable[[Answer], None] = lambda _: None,
        refusal: Callable[[Answer], str] = lambda _: "",
        keep: Callable[[Answer], Page] | None = None,
    ) -> Answer:
        """GET and return the answer, which has a status below 400.

        `secrets` are sent as parameters and kept nowhere. `explain` sees such an answer and may raise for
        errors that a provider hides in it; `refusal` sees any other and may put its meaning into words, which
        then stand in the error in place of the first of the body. `keep` makes the page of an answer that
        `explain` refuses: the error carries it.

        Raises Transient after the last attempt, Permanent at once; both say provider, address and status.
        """

        def ask() -> Answer:
            answer = self._send(host, path, params or {}, secrets or {}, headers or {})
            if answer.status >= 400:
                raise _refused(host, answer, said=refusal(answer))
            try:
                explain(answer)
            except SourceError as error:
                error.pages = (keep(answer),) if keep else ()
                if isinstance(error, QuotaExhausted) and self._keeps_limits(host):
                    error.renewed_at = self._ledger.exhaust(host.quota(self.settings))
                raise
            return answer

        return self.retry(ask)

    def retry(self, call: Callable[[], Result]) -> Result:
        """What `call` returns, tried again while it raises Transient; also for packages with their own HTTP.

        Waits what the error asks, else from 0.2 s to 30 s, ever longer, with up to 1 s of chance. The last
        error rises, and so does one that asks for more than LONGEST_WAIT_S.
        """
        tries = stamina.retry_context(
            on=_wait_for, attempts=self.attempts, timeout=None, wait_initial=0.2, wait_max=30
        )
        for attempt in tries:
            with attempt:
                return call()
        raise AssertionError("the retry loop always returns or raises")

    def redact(self, text: str) -> str:
        """The text without any secret that the settings hold."""
        return _without(text, self.settings.secrets)

    def redact_bytes(self, body: bytes) -> bytes:
        """A body without any secret that the settings hold; unchanged bytes where there is none."""
        return _bytes_without(body, self.settings.secrets)

    def wait_turn(self, quota: Quota, units: float = 1.0) -> None:
        """Return when a request that counts so many units may be sent; all processes of this machine queue up.

        Raises QuotaExhausted where a day's budget is spent, Transient where the provider asked for a long wait.
        """
        if self.also_wait:
            self.also_wait(quota, units)
        self._ledger.take(quota, units)

    def observe(self, quota: Quota, answer: Answer) -> None:
        """Take in what an answer says about the quota: what is left, how long to wait."""
        asked_s = retry_after_s(answer.headers, now=answer.received_at) if answer.status >= 400 else None
        host = urlsplit(answer.url).netloc
        self._ledger.observe(quota, answer.headers, host=host, wait_s=asked_s, at=answer.received_at)

    def requests_left(self, quota: Quota) -> int | None:
        """How many requests today's budget has left; None where there is no budget."""
        return self._ledger.left(quota)

    def tell_usage(self, *, every_s: float = 0.0) -> None:
        """Bring `ops.quota` up to what was used, where the ledger is shared; at most every so many seconds."""
        self._ledger.tell(every_s=every_s)

    def _keeps_limits(self, host: Host) -> bool:
        return self.settings.keeps_limits(host.name, host.url)

    def _send(
        self,
        host: Host,
        path: str,
        params: Mapping[str, str | int],
        secrets: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> Answer:
        base = self.settings.provider_url(host.name, host.url)
        quota = host.quota(self.settings) if self._keeps_limits(host) else None
        if quota:
            self.wait_turn(quota)
        sent = tuple(secret for secret in secrets.values() if secret)
        hidden = (*self.settings.secrets, *sent)
        query = f"?{urlencode(params)}" if params else ""
        real = _without(f"{host.url}{path}{query}", hidden)
        try:
            response = self._http.get(f"{base}{path}", params={**params, **secrets}, headers=dict(headers))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = _without(failure(error), hidden)
            asked = f"{without_login(base)} (setting MNEMO_{host.name}_URL)"
            raise Transient(
                f"{host.name.lower()} does not answer at {asked}: {reason}; asked for {real}"
            ) from None
        log.info("provider answered", provider=host.name.lower(), url=real, status=response.status_code)
        answer = Answer(
            method="GET",
            url=real,
            status=response.status_code,
            # A provider can repeat only what it was sent; anything else in a body is data and stays as it is.
            headers={name: _without(value, sent) for name, value in response.headers.items()},
            body=_bytes_without(response.content, sent),
            received_at=self.now(),
        )
        if quota:
            self.observe(quota, answer)
        return answer


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds that `Retry-After` asks to wait: a number or an HTTP date; None where absent or unreadable."""
    said = headers.get("retry-after", "").strip()
    if not said:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(said) - now).total_seconds())
    except (TypeError, ValueError):
        return None


def without_login(text: str) -> str:
    """The text with no `user:password@` in its addresses."""
    return re.sub(r"//\S*@", "//", text)


def failure(error: httpx.HTTPError | httpx.InvalidURL) -> str:
    """What went wrong on the line; of an address that cannot be read only that, as any part may be a password."""
    kind = type(error).__name__
    return kind if isinstance(error, httpx.InvalidURL) else without_login(f"{kind}: {error}")


def _wait_for(error: Exception) -> bool | float:
    """For stamina: whether to try again, and after how long where the provider said so."""
    if not isinstance(error, Transient):
        return False
    if error.retry_after_s is None:
        return True
    return error.retry_after_s if error.retry_after_s <= LONGEST_WAIT_S else False


def _refused(host: Host, answer: Answer, *, said: str) -> Transient | Permanent:
    said = said or answer.body[:_SHOWN_BYTES].decode("utf-8", "replace")
    message = f"{host.name.lower()} answered {answer.status} to {answer.url}: {said}"
    if answer.status in _TRANSIENT:
        return Transient(message, retry_after_s=retry_after_s(answer.headers, now=answer.received_at))
    return Permanent(message)


def _without(text: str, secrets: tuple[str, ...]) -> str:
    return re.sub(_pattern(secrets), REDACTED, text) if secrets else text


def _bytes_without(body: bytes, secrets: tuple[str, ...]) -> bytes:
    return re.sub(_pattern(secrets).encode(), REDACTED.encode(), body) if secrets else body


def _pattern(secrets: tuple[str, ...]) -> str:
    """Each secret as it is and as it looks in an address, the longest first: one may be part of another."""
    shapes = {shape for secret in secrets for shape in (secret, quote(secret, safe=""))}
    return "|".join(_whole(shape) for shape in sorted(shapes, key=lambda shape: (-len(shape), shape)))


def _whole(shape: str) -> str:
    """A short key, such as the `demo` that AlphaVantage gives to all, must not be cut out of longer words."""
    escaped = re.escape(shape)
    return escaped if len(shape) >= _SHORTEST_UNMISTAKABLE else rf"\b{escaped}\b"
