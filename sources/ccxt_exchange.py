"""One unified ccxt call over two lines: live, where the bytes of every answer are kept, and from kept bytes.

The same method with the same arguments runs both times, so ccxt's knowledge of hundreds of venues serves for
fetching and for understanding alike; only `exchange.fetch`, which carries a request out, differs. `exchanges.yaml`
holds what ccxt does not know (`sources.ccxt_rules`), `sources.ccxt_object` what is changed of ccxt. Nothing here
knows feeds or tables. ccxt itself is imported late: it is slow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal, TypeVar

import httpx
import structlog

from lakehouse.bronze import Page
from lakehouse.errors import UsageError
from lakehouse.window import epoch_ms
from sources.ccxt_errors import sort_error
from sources.ccxt_object import exchange_object, is_timed
from sources.ccxt_rules import exchange_rules, rules_of
from sources.client import Answer, Client, failure, without_login
from sources.errors import Permanent, Transient
from sources.quota import Quota

log = structlog.get_logger()

Method = Literal[
    "fetch_funding_rate_history",
    "fetch_liquidations",
    "fetch_markets",
    "fetch_ohlcv",
    "fetch_open_interest",
    "fetch_open_interest_history",
    "fetch_order_book",
    "fetch_ticker",
    "fetch_trades",
]
Rules = TypeVar("Rules")
Send = Callable[[str, str, Mapping[str, str], str | None], Answer]
"""Carries one request out: method, address, headers, body."""

CALLS: Mapping[str, tuple[str, ...]] = {
    "candles": ("fetchOHLCV",),
    "trades": ("fetchTrades",),
    "tickers": ("fetchTicker",),
    "books": ("fetchOrderBook",),
    "funding": ("fetchFundingRateHistory",),
    "open_interest": ("fetchOpenInterest", "fetchOpenInterestHistory"),
    "liquidations": ("fetchLiquidations",),
    "reference": ("fetchMarkOHLCV", "fetchIndexOHLCV", "fetchPremiumIndexOHLCV"),
}
"""ccxt's names of the calls for each kind of data of `exchanges.yaml`; any one of them will do."""
_OF_ONE = frozenset({"fetch_open_interest", "fetch_order_book", "fetch_ticker"})
"""Calls that give one thing, not a list."""
_SHOWN = 300
_ONE_ADDRESS = {"binanceusdm": "binance", "binancecoinm": "binance", "kucoinfutures": "kucoin"}
"""Exchanges whose requests another one's also go to: their limits are one."""
MISREAD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What ccxt raises when an answer has another shape than its code expects."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A unified call, whole: with it and the answers' bytes nothing else is needed to understand them."""

    exchange: str
    method: Method
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    market: Mapping[str, Any] | None = None
    """The market asked for, as far as its answers need it; None where the call is about all markets."""

    @property
    def about(self) -> str:
        """What messages call it: exchange, method and symbol."""
        return " ".join(filter(None, (self.exchange, self.method, self.arguments.get("symbol"))))


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a call gave: ccxt's rows (numbers as the venue's text) and the answers they come from, in order."""

    call: Call
    rows: list[Any]
    answers: tuple[Answer, ...]
    raw_rows: int = 0
    """How many rows the venue sent; ccxt leaves out those of other symbols and those before the start."""


Ask = Callable[[Call], Reply]
Keep = Callable[[Reply], Iterable[Page]]
"""Makes the pages of a call's answers."""


def market_call(exchange: str, market_type: str) -> Call:
    """The call that lists one type of markets."""
    options = dict(rules_of(exchange).options)
    if market_type:
        options["fetchMarkets"] = {"types": [market_type]}
    return Call(exchange=exchange, method="fetch_markets", options=options)


@contextmanager
def connected(client: Client, keep: Keep) -> Iterator[Ask]:
    """The way to ask venues, over connections that are kept for the block.

    It carries a call out with the client's retries. It raises Transient when the last try failed too, Permanent at
    once; UsageError where ccxt offers no such call. An error over answers that cannot be read carries their pages.
    """
    with httpx.Client(timeout=client.timeout_s, follow_redirects=True) as http:
        objects = _Objects()

        def ask(call: Call) -> Reply:
            exchange = objects.of(call)
            return client.retry(lambda: _ask_once(client, http, exchange, call, keep))

        yield ask


@cache
def attributes(exchange: str) -> Any:
    """A ccxt object of that exchange for what it declares (`timeframes`, `has`); it is not meant to be called."""
    return exchange_object(exchange, {})


def needed(exchange: str, data: str, rules: Rules | None) -> Rules:
    """The rules for a kind of data; UsageError that names what the exchange has where it does not offer that kind."""
    has = attributes(exchange).has
    offered = [
        kind
        for kind, calls in CALLS.items()
        if getattr(rules_of(exchange), kind) is not None and any(has.get(call) for call in calls)
    ]
    if rules is not None and data in offered:
        return rules
    has_call = rules is None and any(has.get(call) for call in CALLS[data])
    why = (
        f" (ccxt has a call for it, exchanges.yaml no row {data} that says what it means)" if has_call else ""
    )
    raise UsageError(f"{exchange} offers no {data}{why}; it has {', '.join(offered)}")


class Replayer:
    """Understands kept answers."""

    def __init__(self) -> None:
        self._objects = _Objects()

    def rows(self, call: Call, answers: Sequence[Answer]) -> list[Any]:
        """The rows of `Reply` from the answers alone: no network, and the clock stands at their receipt.

        Raises ValueError that says what is wrong with the answers.
        """
        import ccxt

        exchange = self._objects.of(call)
        exchange.fetch = partial(_fetch, exchange, _replay(answers))
        now_ms = epoch_ms(answers[-1].received_at)
        exchange.milliseconds, exchange.seconds = lambda: now_ms, lambda: now_ms // 1000
        try:
            rows = _run(exchange, call)
        except (ccxt.BaseError, *MISREAD) as error:
            raise ValueError(f"{type(error).__name__}: {str(error)[:_SHOWN]}") from error
        said = [_json(answer) for answer in answers]
        find = _flaw_of_one if call.method in _OF_ONE else _flaw
        if flaw := find(call, rows, exchange.raw_rows, said):
            raise ValueError(flaw)
        return rows


class _Objects:
    """ccxt's objects, one for all calls of an exchange with the same options: to build one takes longer than a call."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def of(self, call: Call) -> Any:
        key = json.dumps([call.exchange, call.options], sort_keys=True)
        if key not in self._built:
            self._built[key] = exchange_object(call.exchange, call.options)
        return self._built[key]


def _run(exchange: Any, call: Call) -> list[Any]:
    exchange.raw_rows = 0
    if call.market is not None:
        exchange.set_markets([exchange.safe_market_structure(dict(call.market))])
    said = getattr(exchange, call.method)(**call.arguments)
    return [said] if call.method in _OF_ONE else list(said)


def _ask_once(client: Client, http: httpx.Client, exchange: Any, call: Call, keep: Keep) -> Reply:
    import ccxt

    line = _Line(client=client, http=http, exchange=call.exchange, about=call.about)
    _keep_limits(line, exchange)
    exchange.fetch = partial(_fetch, exchange, line.send)
    try:
        rows = _run(exchange, call)
    except ccxt.NotSupported as error:
        raise UsageError(client.redact(f"{call.about}: {error}")) from None
    except ccxt.BaseError as error:
        said = client.redact(str(error))[:_SHOWN]
        message = f"{call.about}: {type(error).__name__}: {said}"
        may_pass = isinstance(error, ccxt.OperationFailed)
        failed = sort_error(message, exchange=call.exchange, answer=line.last, may_pass=may_pass)
        if line.last and line.last.status < 400 and not _is_json(line.last):
            failed.pages = tuple(keep(Reply(call=call, rows=[], answers=tuple(line.answers))))
        raise failed from None
    except MISREAD as error:
        said = line.last.body[:_SHOWN].decode("utf-8", "replace") if line.last else ""
        message = f"{call.about}: cannot read the answer ({type(error).__name__}: {error}): {said}"
        failed = Permanent(client.redact(message))
        failed.pages = tuple(keep(Reply(call=call, rows=[], answers=tuple(line.answers))))
        raise failed from error
    if line.failure:
        # ccxt leaves out what some accounts may not see; a lost answer is another matter.
        raise line.failure
    return Reply(call=call, rows=rows, answers=tuple(line.answers), raw_rows=exchange.raw_rows)


@dataclass(kw_only=True)
class _Line:
    """The live line of one call: keeps every answer as it was received."""

    client: Client
    http: httpx.Client
    exchange: str
    about: str
    answers: list[Answer] = field(default_factory=list)
    failure: Transient | None = None
    quota: Quota | None = None

    @property
    def last(self) -> Answer | None:
        return self.answers[-1] if self.answers else None

    def send(self, method: str, url: str, headers: Mapping[str, str], body: str | None) -> Answer:
        """One request and its answer, whatever its status."""
        sent_to = _redirect(url, prefix=self.client.settings.provider_url("CCXT", ""))
        try:
            response = self.http.request(method, sent_to, headers=dict(headers), content=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = self.client.redact(failure(error))
            where = f"{without_login(sent_to).partition('?')[0]} (setting MNEMO_CCXT_URL)"
            self.failure = Transient(
                f"{self.exchange} does not answer at {where}: {reason}; asked for {self.about}"
            )
            raise self.failure from None
        real = self.client.redact(url)
        log.info("provider answered", provider=self.exchange, url=real, status=response.status_code)
        answer = Answer(
            method=method,
            url=real,
            status=response.status_code,
            headers={name: self.client.redact(value) for name, value in response.headers.items()},
            body=self.client.redact_bytes(response.content),
            received_at=self.client.now(),
        )
        self.answers.append(answer)
        if self.quota:
            self.client.observe(self.quota, answer)
        return answer


def _replay(answers: Sequence[Answer]) -> Send:
    """A line that hands out kept answers in their order."""
    kept = iter(answers)

    def send(method: str, url: str, _headers: Mapping[str, str], _body: str | None) -> Answer:
        answer = next(kept, None)
        if answer is None:
            raise ValueError(f"the answer to {method} {url} is not among the {len(answers)} kept")
        return answer

    return send


def _redirect(url: str, *, prefix: str) -> str:
    """`https://host/path` under the server that stands in for all venues: `<prefix>/host/path`."""
    return f"{prefix}/{url.partition('://')[2]}" if prefix else url


def venue_quota(exchange: str) -> Quota:
    """The pace of an exchange towards our address: that of `exchanges.yaml`, else ccxt's; units are ccxt's costs."""
    rules = exchange_rules().get(exchange)
    pace_ms = float(rules.rate_limit_ms if rules and rules.rate_limit_ms else attributes(exchange).rateLimit)
    return Quota(provider="ccxt", host=_ONE_ADDRESS.get(exchange, exchange), min_interval_s=pace_ms / 1000)


def _keep_limits(line: _Line, exchange: Any) -> None:
    """Keep ccxt's costs of each endpoint, over all processes of this machine."""
    exchange.enableRateLimit = line.client.settings.keeps_limits("CCXT", "")
    if exchange.enableRateLimit:
        quota = line.quota = venue_quota(line.exchange)
        exchange.throttle = lambda cost=None: line.client.wait_turn(quota, float(cost or 1))


def _fetch(
    exchange: Any, send: Send, url: str, method: str = "GET", headers: Any = None, body: str | None = None
) -> Any:
    """What ccxt's `fetch` does, over a line of ours; raises ccxt's errors, also for text that is not JSON."""
    import ccxt

    sent = {str(k): str(v) for k, v in exchange.prepare_request_headers(headers).items()}
    answer = send(method, url, sent, body)
    text = answer.body.decode("utf-8", "replace").strip()
    said = exchange.parse_json(text)
    where = f"{exchange.id} {method} {url} {answer.status}"
    exchange.handle_errors(answer.status, "", url, method, dict(answer.headers), text, said, sent, body)
    if answer.status >= 400:
        exchange.handle_http_status_code(answer.status, "", url, method, text)
        raise ccxt.ExchangeError(f"{where}: {text}")
    if said is None:
        raise ccxt.BadResponse(f"{where}: this is not JSON: {text}")
    if isinstance(said, list) and said[:1] == ["error"]:
        # bitfinex says so with status 200, and ccxt does not look.
        raise ccxt.ExchangeError(f"{where}: {text}")
    return said


def _flaw(call: Call, rows: list[Any], raw_rows: int, said: list[Any]) -> str:
    """What shows that an answer is no list of such rows, though ccxt took it for one."""
    if (
        not rows
        and not raw_rows
        and not (any(map(_holds_empty_list, said)) and not any(map(_holds_rows, said)))
    ):
        return "it has no rows where they should be"
    if rows and call.method != "fetch_markets" and not any(map(is_timed, rows)):
        return f"none of its {len(rows)} rows has a time"
    return ""


def _flaw_of_one(call: Call, rows: list[Any], _raw_rows: int, said: list[Any]) -> str:
    """What shows that an answer is no such thing, though ccxt took it for one."""
    (row,) = rows
    if call.method == "fetch_ticker" and not (row["bid"] or row["ask"] or row["last"]):
        return "it has no price"
    if call.method == "fetch_order_book" and not (row["bids"] and row["asks"]):
        return "" if any(map(_holds_empty_list, said)) else "it has no levels where they should be"
    if call.method == "fetch_open_interest":
        return "" if row["openInterestAmount"] or row["openInterestValue"] else "it has no open interest"
    return ""


def _json(answer: Answer) -> Any:
    return json.loads(answer.body)


def _is_json(answer: Answer) -> bool:
    try:
        _json(answer)
    except ValueError:
        return False
    return True


def _holds_empty_list(said: Any) -> bool:
    """Whether it has, besides its errors, an empty list: how a venue says that there are no rows."""
    if isinstance(said, dict):
        return any(
            _holds_empty_list(value) for name, value in said.items() if not name.lower().startswith("err")
        )
    return isinstance(said, list) and not said


def _holds_rows(said: Any) -> bool:
    """Whether it has, anywhere, a list of lists or objects: if these are not the rows, they have got another name."""
    if isinstance(said, dict):
        return any(map(_holds_rows, said.values()))
    return isinstance(said, list) and any(isinstance(one, list | dict) and one for one in said)
