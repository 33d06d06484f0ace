"""What the twin says about a request that no recording answers.

To the client: what that provider says about a symbol or series that it does not know (`unknown_answer`).
To the operator: the nearest request that is recorded, and what differs (`nearest`).

Statuses and bodies are those of recorded errors and of the providers' documentation; for exchanges also those
by which ccxt tells a bad symbol. A new host is a new row.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from string import Template

import orjson
from starlette.responses import Response

from sources.twin.recording import Request


def unknown_answer(asked: Request) -> Response:
    """The provider's answer for an unknown thing; 404 with an explanation for a host of no provider."""
    row = _row(asked)
    if row is None:
        explanation = {"error": f"the offline twin has no recording of {asked.host or 'this address'}"}
        return Response(orjson.dumps(explanation), 404, {"content-type": "application/json"})
    body = Template(row.body).safe_substitute(_Quoted(asked.parameters))
    return Response(body, row.status, {"content-type": row.content_type})


def nearest(asked: Request, recorded: Collection[Request]) -> dict[str, object]:
    """For the operator's log: why nothing recorded answers, and the nearest request that is."""
    of_host = [request for request in recorded if request.host == asked.host]
    if not of_host:
        return {"reason": "this host is not recorded"}
    of_path = [request for request in of_host if request.path == asked.path]
    if not of_path:
        near = difflib.get_close_matches(asked.path, sorted({request.path for request in of_host}), n=3)
        return {"reason": "this path is not recorded", "nearest": near}
    differences = [_differences(asked, request) for request in of_path]
    return {"reason": "recorded with other parameters", "differs": min(differences, key=len)}


@dataclass(frozen=True)
class _Unknown:
    """What a host and all hosts under it say below a path; `$name` in a body is that parameter's value."""

    host: str
    status: int
    body: str
    path: str = ""
    content_type: str = "application/json"


_HTML = "text/html; charset=utf-8"
_GAMMA = "gamma-api.polymarket.com"
_CLOB = "clob.polymarket.com"
_BINANCE = '{"code":-1121,"msg":"Invalid symbol."}'
_OKX = """{"code":"51001","data":[],"msg":"Instrument ID, Instrument ID code, or Spread ID doesn't exist."}"""
_BYBIT = '{"retCode":10001,"retMsg":"Not supported symbols","result":{},"retExtInfo":{},"time":1726147060461}'
_COINMETRICS = """{"error":{"type":"bad_parameter","message":"Bad parameter '%s is not supported."}}"""
_FRED = '{"error_code":400,"error_message":"Bad Request.  The series does not exist."}'
_ALPHAVANTAGE = (
    '{"Error Message": "Invalid API call. Please retry or visit the documentation '
    '(https://www.alphavantage.co/documentation/) for $function."}'
)
_BIS = '{"errors":[{"code":404,"message":"No data for data query against the dataflow"}]}'
_NO_ID = '{"type":"not found error","error":"id not found"}'
_NO_SLUG = '{"type":"not found error","error":"slug not found"}'

_UNKNOWN = (
    _Unknown("binance.com", 400, _BINANCE),
    _Unknown("binance.us", 400, _BINANCE),
    _Unknown("binance.vision", 400, _BINANCE),
    _Unknown("exchange.coinbase.com", 404, '{"message":"NotFound"}'),
    _Unknown("api.coinbase.com", 404, '{"errors":[{"id":"not_found","message":"Not found"}]}'),
    _Unknown("api.kraken.com", 200, '{"error":["EQuery:Unknown asset pair"]}'),
    _Unknown("futures.kraken.com", 200, '{"result":"error","error":"contractNotFound"}'),
    _Unknown("bitstamp.net", 404, "<html><body><h1>Page not found</h1></body></html>", content_type=_HTML),
    _Unknown("bitfinex.com", 500, '["error",10020,"symbol: invalid"]'),
    _Unknown("okx.com", 200, _OKX),
    _Unknown("bybit.com", 200, _BYBIT),
    _Unknown("kucoin.com", 200, '{"msg":"Unsupported trading pair.","code":"400100"}'),
    _Unknown("gateio.ws", 400, '{"label":"INVALID_CURRENCY_PAIR","message":"Invalid currency pair"}'),
    _Unknown("gateio.ws", 400, '{"label":"CONTRACT_NOT_FOUND"}', "/api/v4/futures/"),
    _Unknown("gateio.ws", 400, '{"label":"CONTRACT_NOT_FOUND"}', "/api/v4/delivery/"),
    _Unknown("deribit.com", 400, '{"jsonrpc":"2.0","error":{"code":13020,"message":"not_found"}}'),
    _Unknown(
        "hyperliquid.xyz",
        422,
        "Failed to deserialize the JSON body into the target type",
        content_type="text/plain; charset=utf-8",
    ),
    _Unknown("coinmetrics.io", 400, _COINMETRICS % "assets'. Value '$assets'"),
    _Unknown("coinmetrics.io", 400, _COINMETRICS % "markets'. Market '$markets'", "/v4/timeseries/market-"),
    _Unknown("api.stlouisfed.org", 400, _FRED, content_type="application/json; charset=UTF-8"),
    _Unknown("fred.stlouisfed.org", 404, "<html><body><h1>Not Found</h1></body></html>", content_type=_HTML),
    _Unknown("alphavantage.co", 200, _ALPHAVANTAGE),
    _Unknown("bis.org", 404, _BIS),
    _Unknown(_GAMMA, 200, "[]"),
    _Unknown(_GAMMA, 200, '{"events":[]}', "/events/keyset"),
    _Unknown(_GAMMA, 200, '{"markets":[]}', "/markets/keyset"),
    _Unknown(_GAMMA, 200, '{"events":[],"pagination":{"hasMore":false,"totalResults":0}}', "/public-search"),
    _Unknown(_GAMMA, 404, _NO_ID, "/events/"),
    _Unknown(_GAMMA, 404, _NO_ID, "/markets/"),
    _Unknown(_GAMMA, 404, _NO_SLUG, "/events/slug/"),
    _Unknown(_GAMMA, 404, _NO_SLUG, "/markets/slug/"),
    _Unknown(_CLOB, 404, '{"error":"No orderbook exists for the requested token id"}'),
    _Unknown(_CLOB, 200, "[]", "/books"),
    _Unknown(_CLOB, 200, '{"history":[]}', "/prices-history"),
    _Unknown(_CLOB, 404, '{"error":"market not found"}', "/markets/"),
    _Unknown("data-api.polymarket.com", 200, "[]"),
)


class _Quoted(dict[str, str]):
    """Parameters as they look inside a JSON string; one that was not sent is empty."""

    def __init__(self, parameters: tuple[tuple[str, str], ...]) -> None:
        super().__init__({name: orjson.dumps(value).decode()[1:-1] for name, value in parameters})

    def __missing__(self, _: str) -> str:
        return ""


def _row(asked: Request) -> _Unknown | None:
    fitting = [
        row
        for row in _UNKNOWN
        if f".{asked.host}".endswith(f".{row.host}") and asked.path.startswith(row.path)
    ]
    return max(fitting, key=lambda row: (len(row.host), len(row.path)), default=None)


def _differences(asked: Request, recorded: Request) -> dict[str, str]:
    """What differs, by name; several values of one parameter are listed together."""
    ours, theirs = _named(asked), _named(recorded)
    return {
        name: f"asked {ours.get(name, 'without')}, recorded {theirs.get(name, 'without')}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    }


def _named(request: Request) -> dict[str, str]:
    named: dict[str, str] = {"(method)": request.method}
    if request.body is not None:
        named["(request body)"] = request.body.decode("utf-8", "replace")
    for name, value in request.parameters:
        named[name] = f"{named[name]}, {value}" if name in named else value
    return named
