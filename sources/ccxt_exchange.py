"""One unified ccxt call over two lines: live, where the bytes of every answer are kept, and from kept bytes.

The same method with the same arguments runs both times, so ccxt's knowledge of hundreds of venues serves for
fetching and for understanding alike; only `exchange.fetch`, which carries a request out, differs. `exchanges.yaml`
holds what ccxt does not know. Nothing here knows feeds or tables. ccxt itself is imported late: it is slow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import httpx
import structlog
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    model_validator,
)

from lakehouse.bronze import Page
from lakehouse.errors import UsageError, unknown
from lakehouse.window import epoch_ms
from sources.ccxt_errors import sort_error
from sources.client import Answer, Client, failure, without_login
from sources.errors import Permanent, Transient

log = structlog.get_logger()

Paging = Literal["newest", "forward_time", "backward_time", "forward_id", "backward_id", "kraken_last"]
Method = Literal["fetch_markets", "fetch_ohlcv", "fetch_trades"]
Send = Callable[[str, str, Mapping[str, str], str | None], Answer]
"""Carries one request out: method, address, headers, body."""

_CONFIG = ConfigDict(extra="forbid", frozen=True)
_SHOWN = 300
MISREAD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What ccxt raises when an answer has another shape than its code expects."""


class CandleRules(BaseModel):
    """How an exchange gives bars."""

    model_config = _CONFIG
    limit: PositiveInt
    """Most bars in one answer."""
    until: bool = False
    """Whether the end of the window must be sent too; else start and limit bound it."""
    newest_only: bool = False
    """Whether only the newest `limit` bars can be had, wherever the window begins."""
    last_is_open: bool = False
    """Whether the last bar of every answer is the one that is still open."""
    settles_s: float = Field(default=2.0, ge=0, le=60)
    """Seconds after its end until a bar has its last trades and is taken for closed."""
    omits_empty: bool = False
    """Whether bars without a trade are left out; else every bar is there, and one that is not is missing."""
    trade_count_index: NonNegativeInt | None = None
    """Where the venue's row has the number of trades."""
    contract_volume: Literal["base", "quote", "contracts"] | None = None
    """What volume counts for contracts; for spot it is always base. None: not known, so not fetched."""


class TradeRules(BaseModel):
    """How an exchange gives past trades; the ways of paging are in `sources.ccxt_paging`."""

    model_config = _CONFIG
    limit: PositiveInt
    contract_limit: PositiveInt | None = None
    """Most trades in one answer for contracts, where that differs."""
    paging: Paging
    cursor: str = ""
    """Parameter that takes a trade id, for paging by id."""
    params: dict[str, str] = {}
    counted_ids: bool = False
    """Whether ids count the trades of an instrument one by one, so that a jump is a hole."""

    @model_validator(mode="after")
    def _cursor_where_needed(self) -> TradeRules:
        if self.paging.endswith("_id") != bool(self.cursor):
            raise ValueError("cursor goes with paging forward_id and backward_id, and only with them")
        return self


class ExchangeRules(BaseModel):
    """One row of `exchanges.yaml`."""

    model_config = _CONFIG
    candles: CandleRules
    trades: TradeRules
    market_types: tuple[str, ...] = ("",)
    """Values of ccxt's option `fetchMarkets.types`, asked one by one; the empty one leaves the option alone."""
    options: dict[str, Any] = {}
    urls: dict[str, Any] = {}
    """Other addresses than ccxt's, in the form of its `urls['api']`."""
    rate_limit_ms: PositiveFloat | None = None
    """Milliseconds between calls, where ccxt's own pace is too fast."""


@cache
def exchange_rules() -> Mapping[str, ExchangeRules]:
    """All rows of `exchanges.yaml`, checked."""
    rows = yaml.safe_load(Path(__file__).with_name("exchanges.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, ExchangeRules]).validate_python(rows)


def rules_of(exchange: str) -> ExchangeRules:
    """The row of one exchange; UsageError with the nearest ids where there is none."""
    try:
        return exchange_rules()[exchange]
    except KeyError:
        raise unknown("exchange", exchange, exchange_rules()) from None


@dataclass(frozen=True, kw_only=True)
class Call:
    """A unified call, whole: with it and the answers' bytes nothing else is needed to understand them."""

    exchange: str
    method: Method
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    market: Mapping[str, Any] | None = None
    """The market asked for, as far as its answers need it; None where the call is about all markets."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a call gave: ccxt's rows (numbers as the venue's text) and the answers they come from, in order."""

    call: Call
    rows: list[Any]
    answers: tuple[Answer, ...]


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

        def ask(call: Call) -> Reply:
            exchange = _exchange(call)
            return client.retry(lambda: _ask_once(client, http, exchange, call, keep))

        yield ask


def attributes(exchange: str) -> Any:
    """A ccxt object of that exchange for what it declares (`timeframes`, `has`); it is not meant to be called."""
    return _exchange(Call(exchange=exchange, method="fetch_markets"))


class Replayer:
    """Understands kept answers. An exchange object is built once for all calls of one exchange."""

    def __init__(self) -> None:
        self._exchanges: dict[str, Any] = {}

    def rows(self, call: Call, answers: Sequence[Answer]) -> list[Any]:
        """The rows of `Reply` from the answers alone: no network, and the clock stands at their receipt.

        Raises ValueError that says what is wrong with the answers.
        """
        import ccxt

        exchange = self._exchange(call)
        exchange.fetch = partial(_fetch, exchange, _replay(answers))
        now_ms = epoch_ms(answers[-1].received_at)
        exchange.milliseconds, exchange.seconds = lambda: now_ms, lambda: now_ms // 1000
        try:
            rows = _run(exchange, call)
        except (ccxt.BaseError, *MISREAD) as error:
            raise ValueError(f"{type(error).__name__}: {str(error)[:_SHOWN]}") from error
        if not rows and not exchange.raw_rows and not any(map(_holds_empty_list, map(_json, answers))):
            raise ValueError("it has no rows where they should be")
        if rows and call.method != "fetch_markets" and not any(map(_is_timed, rows)):
            raise ValueError(f"none of its {len(rows)} rows has a time")
        return rows

    def _exchange(self, call: Call) -> Any:
        key = json.dumps([call.exchange, call.options], sort_keys=True)
        if key not in self._exchanges:
            self._exchanges[key] = _exchange(call)
        return self._exchanges[key]


def _exchange(call: Call) -> Any:
    """A ccxt object that keeps numbers as the venue's text and hides no row; it cannot send yet."""
    import ccxt

    if call.exchange not in ccxt.exchanges:
        raise unknown("exchange", call.exchange, ccxt.exchanges)
    rules = exchange_rules().get(call.exchange)
    config: dict[str, Any] = {"options": dict(call.options), "enableRateLimit": False}
    if rules and rules.urls:
        config["urls"] = {"api": rules.urls}
    exchange = getattr(ccxt, call.exchange)(config)
    exchange.number = str
    exchange.on_json_response = partial(json.loads, parse_float=str)
    exchange.safe_trade = partial(_safe_trade, exchange)
    exchange.parse_trades = partial(_parse_trades, exchange, exchange.parse_trades)
    exchange.parse_ohlcvs = partial(_parse_ohlcvs, exchange, exchange.parse_ohlcvs, rules)
    exchange.parse_ohlcv = partial(_parse_ohlcv, exchange.parse_ohlcv, rules)
    exchange.sort_by_2 = partial(_sort_by_2, exchange.sort_by_2)
    for name in ("filter_by_since_limit", "filter_by_value_since_limit"):
        setattr(exchange, name, partial(_filter, getattr(exchange, name)))
    return exchange


def _run(exchange: Any, call: Call) -> list[Any]:
    exchange.raw_rows = 0
    if call.market is not None:
        exchange.set_markets([exchange.safe_market_structure(dict(call.market))])
    return list(getattr(exchange, call.method)(**call.arguments))


def _ask_once(client: Client, http: httpx.Client, exchange: Any, call: Call, keep: Keep) -> Reply:
    import ccxt

    line = _Line(client=client, http=http, exchange=call.exchange)
    _set_pace(client, exchange, call.exchange)
    exchange.fetch = partial(_fetch, exchange, line.send)
    try:
        rows = _run(exchange, call)
    except ccxt.NotSupported as error:
        raise UsageError(client.redact(f"{call.exchange} {call.method}: {error}")) from None
    except ccxt.BaseError as error:
        said = client.redact(str(error))[:_SHOWN]
        message = f"{call.exchange} {call.method}: {type(error).__name__}: {said}"
        may_pass = isinstance(error, ccxt.OperationFailed)
        failed = sort_error(message, exchange=call.exchange, answer=line.last, may_pass=may_pass)
        if line.last and line.last.status < 400 and not _is_json(line.last):
            failed.pages = tuple(keep(Reply(call=call, rows=[], answers=tuple(line.answers))))
        raise failed from None
    except MISREAD as error:
        said = line.last.body[:_SHOWN].decode("utf-8", "replace") if line.last else ""
        message = (
            f"{call.exchange} {call.method}: cannot read the answer ({type(error).__name__}: {error}): {said}"
        )
        failed = Permanent(client.redact(message))
        failed.pages = tuple(keep(Reply(call=call, rows=[], answers=tuple(line.answers))))
        raise failed from error
    if line.failure:
        # ccxt leaves out what some accounts may not see; a lost answer is another matter.
        raise line.failure
    return Reply(call=call, rows=rows, answers=tuple(line.answers))


@dataclass(kw_only=True)
class _Line:
    """The live line of one call: keeps every answer as it was received."""

    client: Client
    http: httpx.Client
    exchange: str
    answers: list[Answer] = field(default_factory=list)
    failure: Transient | None = None

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
            self.failure = Transient(f"{self.exchange} does not answer at {where}: {reason}")
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


def _set_pace(client: Client, exchange: Any, name: str) -> None:
    """Keep ccxt's costs of each endpoint, at our pace or its own, over all threads of the client."""
    rules = exchange_rules().get(name)
    pace_ms = float(rules.rate_limit_ms if rules and rules.rate_limit_ms else exchange.rateLimit)
    exchange.enableRateLimit = not client.settings.provider_url("CCXT", "")
    exchange.throttle = lambda cost=None: client.wait_turn(f"ccxt {name}", pace_ms * (cost or 1) / 1000)


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


def _parse_trades(exchange: Any, original: Callable[..., Any], raw: Any, *args: Any, **named: Any) -> Any:
    rows = exchange.to_array(raw)
    exchange.raw_rows += len(rows)
    return original(rows, *args, **named)


def _parse_ohlcvs(
    exchange: Any,
    original: Callable[..., Any],
    rules: ExchangeRules | None,
    raw: Any,
    *args: Any,
    **named: Any,
) -> Any:
    rows = exchange.to_array(raw)
    exchange.raw_rows += len(rows)
    return original(rows[:-1] if rules and rules.candles.last_is_open else rows, *args, **named)


def _parse_ohlcv(
    original: Callable[..., Any], rules: ExchangeRules | None, raw: Any, market: Any = None
) -> Any:
    """The bar as ccxt reads it, with the number of trades as a seventh value."""
    index = rules.candles.trade_count_index if rules else None
    counted = raw[index] if index is not None and isinstance(raw, list) and len(raw) > index else None
    return [*original(raw, market), counted]


def _sort_by_2(original: Callable[..., Any], rows: list[Any], first: Any, *rest: Any) -> list[Any]:
    """Sort by two keys as ccxt does, which stumbles over a row without the first: those come last."""
    known = [row for row in rows if row[first] is not None]
    return [*original(known, first, *rest), *(row for row in rows if row[first] is None)]


def _filter(original: Callable[..., Any], rows: list[Any], *args: Any, **named: Any) -> list[Any]:
    """Filter by time and number as ccxt does, but a row without a time is kept: it is judged later, not lost here."""
    timed: list[Any] = []
    untimed: list[Any] = []
    for row in rows:
        (timed if _is_timed(row) else untimed).append(row)
    return [*untimed, *original(timed, *args, **named)]


def _is_timed(row: Any) -> bool:
    """Whether a bar or a trade, as ccxt gives them, says when."""
    return bool(row[0] if isinstance(row, list) else row["timestamp"])


def _safe_trade(exchange: Any, trade: dict[str, Any], _market: Any = None) -> dict[str, Any]:
    """The trade without ccxt's sums of cost and fees, which fail where a price is not a number."""
    texts = {name: exchange.safe_string(trade, name) for name in ("price", "amount")}
    return {**trade, **texts}


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
