"""Made-up candles for where recordings end: the same for every asking, and marked, so that nobody takes them for real.

Answers have the header `x-mnemo-synthetic: 1`, which bronze keeps as `"synthetic": true` in the page's request. Prices
swing around a level of the symbol; a candle opens where the one before it closed. Nothing here is market data.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson
from starlette.responses import Response

from sources.client import SYNTHETIC
from sources.twin.recording import Request

_MS = 1000
_STEPS_S: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Candle:
    """One made-up candle; `open_s` is in seconds since the epoch."""

    open_s: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def prices(self) -> tuple[str, str, str, str]:
        """Open, high, low and close as a venue would write them."""
        return f"{self.open:.2f}", f"{self.high:.2f}", f"{self.low:.2f}", f"{self.close:.2f}"


def synthetic_answer(asked: Request, *, now_s: float) -> Response | None:
    """A venue's answer to a request for candles, as far as they are past; None for any other request."""
    for host, path, answer in _VENUES:
        found = re.fullmatch(path, asked.path)
        if asked.host == host and found and asked.method == "GET":
            try:
                body = answer({**found.groupdict(), **dict(asked.parameters)}, now_s)
            except (KeyError, ValueError):
                return None
            headers = {"content-type": "application/json", SYNTHETIC: "1"}
            return Response(orjson.dumps(body), 200, headers)
    return None


def candles(symbol: str, step_s: int, first_s: float, end_s: float, *, most: int) -> list[Candle]:
    """The first candles that open in `first_s <= t < end_s`."""
    start = math.ceil(first_s / step_s) * step_s
    return [_candle(symbol, step_s, at) for at in range(start, math.ceil(end_s), step_s)[:most]]


def _candle(symbol: str, step_s: int, open_s: int) -> Candle:
    opened, closed = _price(symbol, open_s), _price(symbol, open_s + step_s)
    chance = _chance(symbol, step_s, open_s)
    return Candle(
        open_s,
        opened,
        max(opened, closed) * (1 + 0.002 * chance),
        min(opened, closed) * (1 - 0.002 * chance),
        closed,
        round(step_s * (0.1 + chance), 6),
    )


def _price(symbol: str, at_s: int) -> float:
    """A swing of a day and one of an hour around the symbol's level, and a little chance."""
    level = 50 + zlib.crc32(symbol.encode()) % 20_000
    swing = 0.02 * math.sin(at_s / 86_400 * math.tau) + 0.004 * math.sin(at_s / 3600 * math.tau)
    return round(level * (1 + swing + 0.001 * _chance(symbol, 0, at_s)), 2)


def _chance(symbol: str, step_s: int, at_s: int) -> float:
    """A number from 0 to 1 that looks like chance and is always the same."""
    return zlib.crc32(f"{symbol} {step_s} {at_s}".encode()) / 2**32


def _binance(said: Mapping[str, str], now_s: float) -> object:
    step_s = _step_s(said["interval"])
    first, end = int(said["startTime"]) / _MS, int(said.get("endTime", now_s * _MS)) / _MS
    found = candles(
        said["symbol"], step_s, first, min(end, now_s), most=min(int(said.get("limit", 500)), 1000)
    )
    return [
        [
            one.open_s * _MS,
            *one.prices,
            f"{one.volume:.6f}",
            (one.open_s + step_s) * _MS - 1,
            f"{one.volume * one.close:.6f}",
            int(one.volume * 10) + 1,
            f"{one.volume / 2:.6f}",
            f"{one.volume * one.close / 2:.6f}",
            "0",
        ]
        for one in found
    ]


def _bybit(said: Mapping[str, str], now_s: float) -> object:
    """The newest candles of the range, newest first."""
    step_s = 60 * int(said["interval"]) if said["interval"].isdigit() else _STEPS_S[said["interval"].lower()]
    first, end = int(said["start"]) / _MS, int(said.get("end", now_s * _MS)) / _MS
    found = candles(said["symbol"], step_s, first, min(end, now_s), most=10**6)[
        -int(said.get("limit", 200)) :
    ]
    rows = [
        [str(one.open_s * _MS), *one.prices, f"{one.volume:.6f}", f"{one.volume * one.close:.6f}"]
        for one in reversed(found)
    ]
    result = {"category": said.get("category", "spot"), "symbol": said["symbol"], "list": rows}
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": int(now_s * _MS)}


def _okx(said: Mapping[str, str], now_s: float) -> object:
    """The newest candles between `before` and `after`, both left out, newest first."""
    step_s = _step_s(said["bar"].lower().removesuffix("utc"))
    end = min(int(said.get("after", now_s * _MS)) / _MS, now_s)
    first = (int(said["before"]) + 1) / _MS if "before" in said else end - 100 * step_s
    found = candles(said["instId"], step_s, first, end, most=10**6)[-min(int(said.get("limit", 100)), 300) :]
    rows = [
        [
            str(one.open_s * _MS),
            *one.prices,
            f"{one.volume:.6f}",
            quote := f"{one.volume * one.close:.6f}",
            quote,
            "1",
        ]
        for one in reversed(found)
    ]
    return {"code": "0", "msg": "", "data": rows}


def _bitstamp(said: Mapping[str, str], now_s: float) -> object:
    step_s, first = int(said["step"]), int(said["start"])
    end = min(int(said.get("end", now_s)) + 1, now_s)
    found = candles(said["pair"], step_s, first, end, most=min(int(said.get("limit", 1000)), 1000))
    names = ("open", "high", "low", "close")
    rows = [
        {
            "timestamp": str(one.open_s),
            "volume": f"{one.volume:.8f}",
            **dict(zip(names, one.prices, strict=True)),
        }
        for one in found
    ]
    return {"data": {"pair": said["pair"], "ohlc": rows}}


_VENUES: tuple[tuple[str, str, Callable[[Mapping[str, str], float], object]], ...] = (
    ("api.binance.com", r"/api/v3/klines", _binance),
    ("api.bybit.com", r"/v5/market/kline", _bybit),
    ("www.okx.com", r"/api/v5/market/(history-)?candles", _okx),
    ("www.bitstamp.net", r"/api/v2/ohlc/(?P<pair>[a-z0-9\-]+)", _bitstamp),
)


def _step_s(interval: str) -> int:
    return int(interval[:-1]) * _STEPS_S[interval[-1]]
