"""HTTP for the providers: time-outs, pacing, retries by kind of error, redaction. Knows no provider.

One `Client` serves one run. Retries happen here and nowhere else.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import httpx
import stamina
import structlog

from lakehouse.bronze import Page
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.errors import MissingKey, Permanent, SourceError, Transient

log = structlog.get_logger()

Result = TypeVar("Result")

REDACTED = "REDACTED"
LONGEST_WAIT_S = 120.0
"""A provider that asks for a longer wait is not waited for here: Transient rises and the caller decides."""

_TRANSIENT = frozenset({408, 423, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_SHOWN_BYTES = 200
_TWIN_KEY = "the-offline-twin-needs-no-key"
_SHORTEST_UNMISTAKABLE = 8

# At INFO and DEBUG these log whole addresses and headers, keys included. Our own event says it without them.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host of a provider: scheme and host, no path. `name` makes `MNEMO_<name>_URL`.

    The pace is the provider's own limit.
    """

    name: str
    url: str
    min_interval_s: float = 0.0


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
        """The bronze page of this answer; `context` is what the parser must know beside the body."""
        return Page(
            feed=feed,
            subject=subject,
            request={"method": self.method, "url": self.url, **context},
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
    and between two pieces of an answer.
    """

    settings: Settings
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    attempts: int = 4
    timeout_s: float = 30.0
    _http: httpx.Client = field(init=False, repr=False)
    _pacer: Pacer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        timeout = httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, 10.0))
        self._http = httpx.Client(timeout=timeout, follow_redirects=True)
        self._pacer = Pacer()

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

    def wait_turn(self, name: str, min_interval_s: float) -> None:
        """Keep `min_interval_s` between calls that share a name, over all threads of this client."""
        self._pacer.wait(name, min_interval_s)

    def _send(
        self,
        host: Host,
        path: str,
        params: Mapping[str, str | int],
        secrets: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> Answer:
        base = self.settings.provider_url(host.name, host.url)
        if base == host.url.rstrip("/"):
            self.wait_turn(host.name, host.min_interval_s)
        sent = tuple(secret for secret in secrets.values() if secret)
        hidden = (*self.settings.secrets, *sent)
        query = f"?{urlencode(params)}" if params else ""
        real = _without(f"{host.url}{path}{query}", hidden)
        try:
            response = self._http.get(f"{base}{path}", params={**params, **secrets}, headers=dict(headers))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = _without(failure(error), hidden)
            asked = f"{without_login(base)} (setting MNEMO_{host.name}_URL)"
            raise Transient(f"{host.name.lower()} does not answer at {asked}: {reason}") from None
        log.info("provider answered", provider=host.name.lower(), url=real, status=response.status_code)
        return Answer(
            method="GET",
            url=real,
            status=response.status_code,
            # A provider can repeat only what it was sent; anything else in a body is data and stays as it is.
            headers={name: _without(value, sent) for name, value in response.headers.items()},
            body=_bytes_without(response.content, sent),
            received_at=self.now(),
        )


class Pacer:
    """Spaces calls by name; threads queue up for their turn."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}

    def wait(self, name: str, min_interval_s: float) -> None:
        """Return when it is this caller's turn."""
        with self._lock:
            turn = max(self._clock(), self._next.get(name, 0.0))
            self._next[name] = turn + min_interval_s
        self._sleep(max(0.0, turn - self._clock()))


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
