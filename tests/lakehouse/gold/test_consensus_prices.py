"""gold.consensus_prices from given bars, and against a plain calculation over bars that venues recorded."""

import gzip
import json
import zipfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from statistics import fmean, median

import polars as pl
import pytest

from lakehouse.gold import candles, consensus_prices
from lakehouse.gold.consensus_prices import OUTLIER
from lakehouse.lineage import sources_of

RECORDED = Path(__file__).parents[3] / "../shared/recorded"
needs_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider data are not here")

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def bar(venue: str, open_at: datetime, close: float, volume: float | None = 1.0, **said: object) -> dict:
    closed = open_at + MINUTE
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    when = {"open_at": open_at, "event_at": closed, "known_at": closed, "ingested_at": closed}
    about = {"venue": venue, "instrument_id": "BTC/USD", "interval": "1m", "coverage": 1.0}
    return about | when | prices | {"volume": volume, "volume_unit": "base"} | said


def built(*bars: dict) -> list[dict]:
    names = candles.TABLE.schema.names()
    rows = [{name: row.get(name) for name in names} for row in bars]
    inputs = {"gold.candles": pl.LazyFrame(rows, schema=candles.TABLE.schema)}
    found = consensus_prices.build(inputs).collect(engine="streaming")
    return found.sort("instrument_id", "open_at", "known_at").to_dicts()


def hour_before(venue: str, *, volume: float, spread: float) -> list[dict]:
    """Sixty bars around 100 before noon: prices go up and down by `spread`."""
    return [
        bar(venue, NOON - HOUR + MINUTE * step, 100 + spread * (-1) ** step, volume / 60)
        for step in range(60)
    ]


def at_noon(*bars: dict) -> dict:
    (row,) = [row for row in built(*bars) if row["open_at"] == NOON]
    return row


def test_a_row_says_what_was_compared_and_what_came_of_it() -> None:
    bars = [bar("b", NOON, 101, 3.0), bar("a", NOON, 100, 1.0), bar("c", NOON, 102, 1.0)]
    (row,) = built(*bars)
    shares = ((100, 0.2), (101, 0.6), (102, 0.2))
    assert row == {
        "instrument_id": "BTC/USD",
        "base": "BTC",
        "quote": "USD",
        "open_at": NOON,
        "event_at": NOON + MINUTE,
        "known_at": NOON + MINUTE,
        "ingested_at": NOON + MINUTE,
        "price": 101.0,
        "volume": 5.0,
        "dispersion_bps": pytest.approx(sum(w * ((p / 101 - 1) * 1e4) ** 2 for p, w in shares) ** 0.5),
        "venue_count": 3,
        "venues": ["a", "b", "c"],
        "outlier_venues": [],
        "weighting": "minute_volume",
    }


def test_weight_is_the_mean_of_the_shares_of_volume_and_of_inverse_variance() -> None:
    # Volume 9 to 1 for a; precision 1 to 100 for a: a weighs (0.9 + 0.0099) / 2, b the rest, which is more than half.
    told = [*hour_before("a", volume=9, spread=1.0), *hour_before("b", volume=1, spread=0.1)]
    row = at_noon(*told, bar("a", NOON, 100), bar("b", NOON, 101))
    assert (row["price"], row["weighting"]) == (101.0, "volume_and_variance")
    # With variances alike, volume decides.
    told = [*hour_before("a", volume=9, spread=1.0), *hour_before("b", volume=1, spread=1.0)]
    assert at_noon(*told, bar("a", NOON, 100), bar("b", NOON, 101))["price"] == 100.0


@pytest.mark.parametrize(
    ("told", "volumes", "weighting", "price"),
    [
        pytest.param({"volume": 6.0, "spread": 0.0}, (1.0, 1.0), "volume", 100.0, id="no variance"),
        pytest.param(None, (1.0, 2.0), "minute_volume", 101.0, id="no hour before"),
        pytest.param(None, (None, None), "equal", 100.0, id="no volumes: of two alike the lower price"),
    ],
)
def test_what_is_not_known_does_not_weigh(told, volumes, weighting, price) -> None:
    before = hour_before("a", **told) if told else []
    row = at_noon(*before, bar("a", NOON, 100, volumes[0]), bar("b", NOON, 101, volumes[1]))
    assert (row["weighting"], row["price"]) == (weighting, price)


def test_a_bar_that_became_known_after_the_hour_does_not_weigh_in_it() -> None:
    before = hour_before("a", volume=9, spread=1.0)
    late = [row | {"known_at": NOON + MINUTE} for row in hour_before("b", volume=900, spread=0.1)]
    row = at_noon(*before, *late, bar("a", NOON, 100), bar("b", NOON, 101))
    assert row["price"] == 100.0


@pytest.mark.parametrize(
    ("prices", "flagged"),
    [
        pytest.param({"a": 100, "b": 100.01, "c": 99.99, "d": 101}, ["d"], id="far in both measures"),
        pytest.param({"a": 100, "b": 100, "c": 100, "d": 100.2}, [], id="far in deviations only"),
        pytest.param({"a": 100, "b": 101, "c": 99, "d": 102}, [], id="far in bps only"),
        pytest.param({"a": 100, "b": 110}, [], id="of two nobody knows which is wrong"),
    ],
)
def test_an_outlier_is_flagged_and_left_out_but_said(prices, flagged) -> None:
    (row,) = built(*(bar(venue, NOON, price) for venue, price in prices.items()))
    assert row["outlier_venues"] == flagged
    assert row["venues"] == sorted(set(prices) - set(flagged))
    assert row["volume"] == len(row["venues"])


def test_who_did_not_trade_or_is_no_spot_market_has_no_say() -> None:
    nothing = [
        bar("a", NOON, 90, 0.0),
        bar("b", NOON, 90, instrument_id="BTC/USD:BTC"),
        bar("c", NOON, 90, interval="5m"),
        bar("d", NOON, 90, coverage=0.5),
    ]
    assert built(*nothing) == []
    (row,) = built(*nothing, bar("e", NOON, 100))
    assert (row["venues"], row["price"], row["dispersion_bps"]) == (["e"], 100.0, None)


def test_quotes_are_not_merged() -> None:
    rows = built(bar("a", NOON, 100), bar("a", NOON, 99, instrument_id="BTC/USDT"))
    assert [(row["base"], row["quote"], row["price"]) for row in rows] == [
        ("BTC", "USD", 100.0),
        ("BTC", "USDT", 99.0),
    ]


def test_the_vwap_is_the_price_where_there_is_one() -> None:
    assert at_noon(bar("a", NOON, 100, vwap=100.5))["price"] == 100.5


def test_a_late_venue_gives_a_version_of_its_own() -> None:
    late = NOON + 5 * MINUTE
    rows = built(bar("a", NOON, 100), bar("b", NOON, 102, 5.0, known_at=late))
    assert [(row["known_at"], row["venues"], row["price"]) for row in rows] == [
        (NOON + MINUTE, ["a"], 100.0),
        (late, ["a", "b"], 102.0),
    ]


def test_a_row_names_the_bars_that_it_was_made_from() -> None:
    bars = [*hour_before("a", volume=9, spread=1.0), bar("a", NOON, 100), bar("b", NOON, 101)]
    row = at_noon(*bars)
    rows = [{name: one.get(name) for name in candles.TABLE.schema.names()} for one in bars]
    given = pl.LazyFrame(rows, schema=candles.TABLE.schema)
    (reach,) = consensus_prices.MODEL.reaches
    found = sources_of(consensus_prices.MODEL, reach, candles.TABLE, row, given).collect()
    assert found.select("venue", "open_at", "close").sort("venue").rows() == [
        ("a", NOON, 100.0),
        ("b", NOON, 101.0),
    ]


# An independent calculation, in plain Python

Bars = dict[datetime, dict[str, tuple[float, float]]]


def recorded_day() -> tuple[Bars, list[dict]]:
    """Minute bars of 2018-04-05 of Bitfinex and Coinbase (BTC/USD): close and volume of each that traded."""
    day = datetime(2018, 4, 5, tzinfo=UTC)
    found: Bars = defaultdict(dict)
    path = RECORDED / "ohlcv/bitfinex-raw/BTCUSD_1m_20180402-20180408.jsonl.gz"
    for line in gzip.decompress(path.read_bytes()).splitlines():
        for ms, _open, close, _high, _low, volume in json.loads(json.loads(line)["body"]):
            found[datetime.fromtimestamp(ms / 1000, UTC)]["bitfinex"] = (close, volume)
    with zipfile.ZipFile(RECORDED / "ohlcv/lean/crypto/coinbase/minute/btcusd/20180405_trade.zip") as archive:
        text = archive.read(archive.namelist()[0]).decode()
    for line in text.splitlines():
        ms, _open, _high, _low, close, volume = map(float, line.split(","))
        found[day + timedelta(milliseconds=ms)]["coinbase"] = (close, volume)
    bars = {at: said for at, said in found.items() if day <= at < day + timedelta(days=1)}
    rows = [bar(venue, at, *figures) for at, said in bars.items() for venue, figures in said.items()]
    return bars, rows


def calculated(bars: Bars) -> dict[datetime, tuple[float, list[str]]]:
    """Price and outliers of each minute by the rules in the docstring of the model."""
    return {at: calculated_minute(at, bars) for at in bars}


def calculated_minute(at: datetime, bars: Bars) -> tuple[float, list[str]]:
    weights = weights_of(at.replace(minute=0), bars)
    said = {venue: (price, volume) for venue, (price, volume) in bars[at].items() if volume > 0}
    middle = median(price for price, _ in said.values())
    far = {venue: abs(price / middle - 1) * 1e4 for venue, (price, _) in said.items()}
    limit = max(OUTLIER.bps, OUTLIER.deviations * 1.4826 * median(far.values()))
    outliers = sorted(v for v in far if len(far) >= OUTLIER.venues and far[v] > limit)
    prices = sorted((price, venue) for venue, (price, _) in said.items() if venue not in outliers)
    shares = shares_of(
        [venue for _, venue in prices], weights, {v: volume for v, (_, volume) in said.items()}
    )
    reached = next(n for n, sum_ in enumerate(accumulate(shares)) if sum_ >= 0.5 - 1e-9)
    return prices[reached][0], outliers


def weights_of(hour: datetime, bars: Bars) -> dict[str, tuple[float, float]]:
    before = [bars[at] for step in range(60) if (at := hour - HOUR + MINUTE * step) in bars]
    by_venue = defaultdict(list)
    for minute in before:
        for venue, figures in minute.items():
            by_venue[venue].append(figures)
    if not by_venue:
        return {}
    mean = fmean(price for figures in by_venue.values() for price, _ in figures)
    return {
        venue: (
            sum(volume for _, volume in figures),
            1 / fmean((price / mean - 1) ** 2 for price, _ in figures),
        )
        for venue, figures in by_venue.items()
    }


def shares_of(venues: list[str], weights: dict, volumes: dict[str, float]) -> list[float]:
    if not weights:
        return [volumes[venue] / sum(volumes[v] for v in venues) for venue in venues]
    by_volume, by_precision = ([weights.get(venue, (0, 0))[n] for venue in venues] for n in (0, 1))
    return [
        (v / sum(by_volume) + p / sum(by_precision)) / 2 for v, p in zip(by_volume, by_precision, strict=True)
    ]


@needs_recordings
def test_recorded_minutes_of_two_venues_agree_with_a_plain_calculation() -> None:
    bars, rows = recorded_day()
    expected = calculated(bars)
    found = {row["open_at"]: (row["price"], row["outlier_venues"]) for row in built(*rows)}
    assert len(found) == 1440
    assert found == expected
    assert sum(len(said) == 2 for said in bars.values()) > 1400
