"""Where a venue is reached: at its own address, or wherever `MNEMO_CCXT_URL` and the twin's address say."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from lakehouse.settings import Settings
from sources.ccxt_exchange import venue_quota
from sources.client import Answer, Client, failure
from sources.errors import SourceError
from sources.stream import Ask, Fetch

_UNITS = 10.0
"""About what a deep order book counts, in ccxt's costs."""


def socket_address(settings: Settings, provider: str, url: str) -> str:
    """The address to connect to in place of a venue's WebSocket address."""
    return _moved(settings, provider, url).replace("http", "ws", 1)


def asker(client: Client, provider: str, venue: str) -> Ask:
    """Asks for a venue's REST answers, one at a time and within its limits; it tries once."""
    has_limits = provider == "ccxt" and client.settings.keeps_limits("CCXT", "")
    quota = venue_quota(venue) if has_limits else None
    trusted = httpx.create_ssl_context()  # slow to make; connections are few, and not kept

    def ask(asked: Fetch) -> tuple[int, str]:
        try:
            if quota:
                client.wait_turn(quota, _UNITS)
            url = _moved(client.settings, provider, asked.url)
            with httpx.Client(timeout=client.timeout_s, follow_redirects=True, verify=trusted) as http:
                response = http.request(
                    asked.method, url, content=asked.body or None, headers=_headers(asked)
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return 0, client.redact(failure(error))
        except SourceError as error:
            return 0, str(error)
        if quota:
            client.observe(quota, _answer(response, asked, client))
        return response.status_code, client.redact(response.content.decode("utf-8", "replace"))

    return ask


def _headers(asked: Fetch) -> dict[str, str]:
    return {"content-type": "application/json"} if asked.body else {}


def _answer(response: httpx.Response, asked: Fetch, client: Client) -> Answer:
    return Answer(
        method=asked.method,
        url=asked.url,
        status=response.status_code,
        headers=response.headers,
        body=b"",
        received_at=client.now(),
    )


def _moved(settings: Settings, provider: str, url: str) -> str:
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if provider == "ccxt":
        prefix = settings.provider_url("CCXT", "")
        base = f"{prefix}/{parts.netloc}" if prefix else origin
    else:
        base = settings.provider_url(f"{provider.upper()}_WS", origin)
    return base + url.removeprefix(origin)
