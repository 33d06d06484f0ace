"""gold.derivatives from given rows, and against a plain calculation over what a venue recorded."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse import catalog
from lakehouse.gold import derivatives
from lakehouse.lineage import sources_of

RECORDED = Path(__file__).parents[3] / "../shared/recorded"
needs_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider data are not here")

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LINEAR, INVERSE, DATED, QUANTO = "BTC/USDT:USDT", "BTC/USD:BTC", "BTC/USDT:USDT-240329", "ETH/USD:BTC"

Row = dict[str, object]


def fact(at: datetime, **said: object) -> Row:
    clocks = {"event_at": at, "known_at": said.get("known_at", at), "ingested_at": said.get("known_at", at)}
    return {"provider": "ccxt", "venue": "okx", "instrument_id": LINEAR, "page_id": 1} | clocks | said


def funding(at: datetime, rate: float, hours: float | None = 8.0, **said: object) -> Row:
    return fact(at, rate=rate, interval_hours=hours, **said)


def interest(
    at: datetime, amount: float | None, unit: str = "base", sides: str = "one", **said: object
) -> Row:
    return fact(at, amount=amount, amount_unit=unit, sides=sides, **said)


def forced(
    number: int, at: datetime, amount: float, side: str | None, unit: str = "base", **said: object
) -> Row:
    return fact(
        at, liquidation_id=str(number), amount=amount, amount_unit=unit, side=side, price=100.0, **said
    )


def mark(end: datetime, close: float, interval: str = "1h", kind: str = "mark", **said: object) -> Row:
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    return fact(end, **prices, interval=interval, open_at=end - HOUR, price_type=kind, **said)


def candle(end: datetime, close: float, instrument_id: str, **said: object) -> Row:
    bar = {"interval": "1h", "open_at": end - HOUR, "close": close, "volume": 1.0, "coverage": 1.0}
    return fact(end, **bar | {"instrument_id": instrument_id} | said)


def listing(at: datetime, instrument_id: str, size: float, **said: object) -> Row:
    is_inverse = instrument_id == INVERSE
    return fact(at, instrument_id=instrument_id, contract_size=size, is_inverse=is_inverse, **said)


NAMES = {
    "funding": "silver.funding_rates",
    "samples": "silver.open_interest",
    "closings": "silver.liquidations",
    "reference": "silver.reference_candles",
    "bars": "gold.candles",
    "listings": "silver.instruments",
}


def inputs_of(**given: list[Row]) -> dict[str, pl.LazyFrame]:
    frames = {}
    for short, name in NAMES.items():
        schema = catalog.table(name).schema
        rows = [{column: row.get(column) for column in schema} for row in given.get(short, [])]
        frames[name] = pl.LazyFrame(rows, schema=schema)
    return frames


def ticking(since: datetime, hours: int) -> list[Row]:
    """Something that becomes known every hour and tells nothing itself."""
    return [mark(since + HOUR * n, 0.0, kind="premium", venue="clock") for n in range(hours)]


def built(*, interval: str = "1h", **given: list[Row]) -> list[Row]:
    times = [row["event_at"] for rows in given.values() for row in rows]
    reference = given.pop("reference", []) + ticking(NOON - 2 * DAY, 96)
    reference += ticking(
        min(times).replace(minute=0, second=0, microsecond=0), (max(times) - min(times)) // HOUR + 48
    )
    rows = derivatives.build(inputs_of(reference=reference, **given)).filter(pl.col("interval") == interval)
    found = rows.collect(engine="streaming")
    return found.sort("open_at", "venue", "instrument_id", "known_at").to_dicts()


def test_what_is_not_told_is_null() -> None:
    (row,) = built(funding=[funding(NOON, 0.0001)])
    told = {name: value for name, value in row.items() if value is not None}
    assert told == {
        "venue": "okx",
        "instrument_id": LINEAR,
        "interval": "1h",
        "open_at": NOON,
        "event_at": NOON + HOUR,
        "known_at": NOON + HOUR,
        "ingested_at": NOON,
        "base": "BTC",
        "quote": "USDT",
        "settle": "USDT",
        "funding_rate": 0.0001,
        "funding_count": 1,
        "funding_hours": 8.0,
        "funding_carry": pytest.approx(0.0001 * 3 * 365),
    }


@pytest.mark.parametrize(
    ("hours", "carry"),
    [((8.0, 8.0, 8.0), 0.0006 * 365), ((1.0, 1.0, 1.0), 0.0006 / 3 * 24 * 365), ((8.0, None, 8.0), None)],
)
def test_the_carry_is_annualised_by_the_time_that_the_rates_are_for(hours, carry) -> None:
    rates = zip((0.0001, 0.0002, 0.0003), hours, strict=True)
    settled = [funding(NOON - 12 * HOUR + HOUR * n, rate, h) for n, (rate, h) in enumerate(rates)]
    (row,) = built(funding=settled, interval="1d")
    assert row["funding_rate"] == pytest.approx(0.0006)
    assert row["funding_count"] == 3
    assert row["funding_carry"] == (carry and pytest.approx(carry))


def test_funding_that_two_providers_tell_counts_once() -> None:
    told = [funding(NOON, 0.0001), funding(NOON, 0.00011, provider="coinmetrics")]
    told.append(funding(NOON + 8 * HOUR, 0.0002, provider="coinmetrics"))
    assert [row["funding_rate"] for row in built(funding=told)] == [0.0001, 0.0002]
    (day,) = built(funding=told, interval="1d")
    assert (day["funding_rate"], day["funding_count"]) == (pytest.approx(0.00031), 2)


def test_basis_is_against_the_index_and_against_spot_of_the_same_venue() -> None:
    end = NOON + HOUR
    (row,) = built(
        reference=[mark(end, 101.0), mark(end, 100.0, kind="index"), mark(end, 0.01, kind="premium")],
        bars=[
            candle(end, 101.5, LINEAR),
            candle(end, 99.0, "BTC/USDT"),
            candle(end, 80.0, "BTC/USD"),
            candle(end, 70.0, "BTC/USDT", venue="kraken"),
        ],
    )
    assert (row["price"], row["price_type"]) == (101.0, "mark")
    assert row["basis_to_index"] == pytest.approx(0.01)
    assert row["basis_to_spot"] == pytest.approx(101 / 99 - 1)
    assert row["basis_annualised"] is None


def test_the_last_trade_stands_in_for_the_mark_price_unless_nobody_traded() -> None:
    (row,) = built(bars=[candle(NOON, 101.5, LINEAR)])
    assert (row["price"], row["price_type"]) == (101.5, "traded")
    assert built(bars=[candle(NOON, 101.5, LINEAR, volume=0.0)]) == []
    assert built(bars=[candle(NOON, 101.5, "BTC/USDT")]) == []


def test_the_bar_of_the_interval_itself_is_taken_before_finer_ones() -> None:
    end = NOON + HOUR
    fine = [mark(end, 102.0, "1m"), mark(end - MINUTE, 90.0, "1m"), mark(end, 103.0, "4h")]
    assert [row["price"] for row in built(reference=fine)] == [102.0]
    assert [row["price"] for row in built(reference=[*fine, mark(end, 101.0)])] == [101.0]


def test_a_dated_basis_is_annualised_by_the_time_to_expiry() -> None:
    end = NOON + HOUR
    expiry = end + 73 * DAY
    (row,) = built(
        reference=[
            mark(end, 102.0, instrument_id=DATED),
            mark(end, 100.0, kind="index", instrument_id=DATED),
        ],
        listings=[listing(NOON, DATED, 0.01, expires_at=expiry)],
    )
    assert row["basis_annualised"] == pytest.approx(0.02 * 5)


@pytest.mark.parametrize(
    ("instrument_id", "unit", "size", "expected"),
    [
        pytest.param(LINEAR, "base", None, 500.0, id="base"),
        pytest.param(LINEAR, "quote", None, 5.0, id="quote"),
        pytest.param(LINEAR, "contracts", 0.01, 5.0, id="linear contracts"),
        pytest.param(INVERSE, "contracts", 10.0, 50.0, id="inverse contracts"),
        pytest.param(LINEAR, "contracts", None, None, id="contracts that no listing was known of"),
        pytest.param(QUANTO, "contracts", 10.0, None, id="quanto contracts"),
    ],
)
def test_open_interest_is_told_in_base_where_its_worth_is_known(instrument_id, unit, size, expected) -> None:
    (row,) = built(
        samples=[interest(NOON, 500.0, unit, instrument_id=instrument_id)],
        reference=[mark(NOON + HOUR, 100.0, instrument_id=instrument_id)],
        listings=[listing(NOON, instrument_id, size)] if size else [],
    )
    assert row["open_interest"] == expected
    assert row["open_interest_value"] == (expected and expected * 100)
    assert row["open_interest_at"] == NOON


def test_a_listing_of_later_tells_nothing_of_before() -> None:
    later = listing(NOON + 2 * HOUR, LINEAR, 0.01)
    samples = [interest(NOON, 500.0, "contracts"), interest(NOON + HOUR, 600.0, "contracts")]
    assert [row["open_interest"] for row in built(samples=samples, listings=[later])] == [None, 6.0]


@pytest.mark.parametrize(("currency", "expected"), [("USDT", 5.0), ("BTC", 500.0), ("USD", None)])
def test_a_value_stands_in_for_an_amount_in_a_currency_of_the_contract(currency, expected) -> None:
    sample = interest(NOON, None, value=500.0, value_currency=currency)
    (row,) = built(samples=[sample], reference=[mark(NOON + HOUR, 100.0)])
    assert row["open_interest"] == expected


@pytest.mark.parametrize(
    ("sides", "amount", "told"), [("one", 10.0, "one"), ("both", 5.0, "halved"), ("unknown", 10.0, "unknown")]
)
def test_open_interest_is_halved_only_where_it_is_known_to_count_both_sides(sides, amount, told) -> None:
    (row,) = built(samples=[interest(NOON, 10.0, sides=sides)])
    assert (row["open_interest"], row["open_interest_sides"]) == (amount, told)
    assert row["is_share_certain"] == (sides != "unknown")


def test_the_last_sample_of_the_interval_counts_and_its_change_since_the_one_before() -> None:
    samples = [interest(NOON, 1.0), interest(NOON + 59 * MINUTE, 2.0), interest(NOON + HOUR, 5.0)]
    rows = built(samples=samples)
    assert [(row["open_interest"], row["open_interest_change"]) for row in rows] == [(2.0, None), (5.0, 3.0)]
    other = [*samples[:2], interest(NOON + HOUR, 5.0, provider="coinmetrics")]
    assert [row["open_interest_change"] for row in built(samples=other)] == [None, None]


def test_the_share_is_that_of_the_venue_in_all_contracts_on_the_asset() -> None:
    rows = built(
        samples=[
            interest(NOON, 1.0),
            interest(NOON, 2.0, instrument_id=INVERSE),
            interest(NOON, 9.0, venue="binance"),
            interest(NOON, 7.0, instrument_id="ETH/USDT:USDT"),
        ]
    )
    told = {(row["venue"], row["instrument_id"]): (row["venue_share"], row["venue_count"]) for row in rows}
    assert told == {
        ("binance", LINEAR): (0.75, 2),
        ("okx", LINEAR): (0.25, 2),
        ("okx", INVERSE): (0.25, 2),
        ("okx", "ETH/USDT:USDT"): (1.0, 1),
    }


def test_there_is_no_share_where_one_amount_cannot_be_told_in_base() -> None:
    samples = [interest(NOON, 1.0), interest(NOON, 9.0, "contracts", venue="binance")]
    assert [row["venue_share"] for row in built(samples=samples)] == [None, None]


def test_late_news_of_one_venue_gives_the_others_a_version_from_then_on() -> None:
    late = NOON + 5 * HOUR
    samples = [interest(NOON, 1.0), interest(NOON, 3.0, venue="binance", known_at=late)]
    rows = [row for row in built(samples=samples) if row["venue"] == "okx"]
    assert [(row["known_at"], row["venue_share"]) for row in rows] == [(NOON + HOUR, 1.0), (late, 0.25)]


def test_liquidations_are_counted_by_the_position_that_they_closed() -> None:
    closings = [forced(1, NOON, 1.5, "sell"), forced(2, NOON, 2.5, "sell"), forced(3, NOON, 1.0, "buy")]
    closings.append(forced(4, NOON, 9.0, None))
    (row,) = built(closings=closings)
    assert [row[name] for name in ("liquidations", "long_liquidations", "short_liquidations")] == [4, 2, 1]
    assert (row["long_liquidated"], row["short_liquidated"]) == (4.0, 1.0)


def test_an_amount_of_liquidations_is_null_where_one_cannot_be_told_in_base() -> None:
    closings = [forced(1, NOON, 1.5, "sell"), forced(2, NOON, 2.5, "sell", "contracts")]
    (row,) = built(closings=closings)
    assert (row["long_liquidated"], row["short_liquidated"]) == (None, 0.0)
    (row,) = built(closings=closings, listings=[listing(NOON, LINEAR, 0.01)])
    assert row["long_liquidated"] == 1.525


def test_an_interval_is_told_once_something_shows_that_it_is_over() -> None:
    end = NOON + HOUR
    for signs, known_at in (
        ([], []),
        ([interest(end - MINUTE, 2.0, venue="binance")], []),
        ([interest(end + MINUTE, 2.0, venue="binance")], [end + MINUTE]),
        ([interest(end - 2 * DAY, 2.0, venue="binance", known_at=end + MINUTE)], []),
        ([interest(end + 2 * DAY, 2.0, venue="binance")], []),
    ):
        inputs = inputs_of(samples=[interest(NOON, 1.0), *signs])
        rows = derivatives.build(inputs).filter(pl.col("venue") == "okx", pl.col("interval") == "1h")
        assert rows.collect()["known_at"].to_list() == known_at


def test_options_and_spot_are_left_out() -> None:
    others = ("BTC/USD:BTC-240329-50000-C", "BTC/USDT")
    assert built(samples=[interest(NOON, 1.0, instrument_id=other) for other in others]) == []


def test_a_row_names_what_it_was_made_from() -> None:
    end = NOON + HOUR
    given = {
        "funding": [funding(NOON, 0.0001), funding(NOON - 8 * HOUR, 0.0002)],
        "samples": [interest(NOON, 1.0), interest(NOON - HOUR, 2.0), interest(NOON, 9.0, venue="binance")],
        "reference": [mark(end, 101.0), mark(NOON, 90.0)],
        "bars": [candle(end, 99.0, "BTC/USDT"), candle(NOON, 98.0, "BTC/USDT")],
        "listings": [listing(NOON, LINEAR, 0.01), listing(NOON - DAY, LINEAR, 0.1)],
    }
    row = next(one for one in built(**given) if one["open_at"] == NOON and one["venue"] == "okx")
    inputs = inputs_of(**given)
    found = {
        reach.input: sources_of(
            derivatives.MODEL, reach, catalog.table(reach.input), row, inputs[reach.input]
        ).collect()
        for reach in derivatives.MODEL.reaches
    }
    assert found["silver.funding_rates"]["rate"].to_list() == [0.0001]
    assert sorted(found["silver.open_interest"]["amount"]) == [1.0, 2.0, 9.0]
    assert found["silver.reference_candles"]["close"].to_list() == [101.0]
    assert found["gold.candles"]["close"].to_list() == [99.0]
    assert found["silver.instruments"]["contract_size"].to_list() == [0.01]


# An independent calculation, in plain Python


@needs_recordings
def test_recorded_funding_of_a_month_agrees_with_a_plain_sum() -> None:
    path = RECORDED / "ohlcv/freqtrade/XRP_USDT_USDT-8h-funding_rate.feather"
    told = pl.read_ipc(path).select("date", "open").rows()
    settled = [funding(at, rate, instrument_id="XRP/USDT:USDT") for at, rate in told]
    by_day = defaultdict(list)
    for at, rate in told:
        by_day[at.date()].append(rate)
    rows = built(funding=settled, interval="1d")
    assert len(rows) == len(by_day) == 31
    for row in rows:
        rates = by_day[row["open_at"].date()]
        assert row["funding_count"] == len(rates)
        assert row["funding_rate"] == pytest.approx(sum(rates), abs=1e-15)
        assert row["funding_carry"] == pytest.approx(sum(rates) / len(rates) * 3 * 365)


@needs_recordings
def test_recorded_mark_and_traded_prices_agree_with_a_plain_ratio() -> None:
    """The futures' own trades stand in for spot: the recording has none."""
    name = "XRP_USDT_USDT-1h"
    marks, trades = (
        dict(pl.read_ipc(RECORDED / f"ohlcv/freqtrade/{name}-{kind}.feather")["date", "close"].rows())
        for kind in ("mark", "futures")
    )
    about = {"instrument_id": "XRP/USDT:USDT"}
    rows = built(
        reference=[mark(at + HOUR, close, **about) for at, close in marks.items()],
        bars=[candle(at + HOUR, close, "XRP/USDT") for at, close in trades.items()],
    )
    assert {row["open_at"]: row["price"] for row in rows} == marks
    assert {row["open_at"]: row["basis_to_spot"] for row in rows if row["spot_price"]} == {
        at: pytest.approx(marks[at] / trades[at] - 1) for at in marks.keys() & trades.keys()
    }
    assert len(marks.keys() & trades.keys()) > 50
