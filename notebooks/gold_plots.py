"""Plots of the gold tables of the demo's lake: what the notebook beside this file and docs/gold.md show.

    make docs-plots   # after `make demo`

Each function reads a lake and gives an Altair chart. They plot what is there; only what a reader would do himself is
computed here (sums along a book, counts, growth of the newest values).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import altair as alt
import polars as pl

from lakehouse import Lake

WIDTH = 700
NEAR = 0.03
"""How far from the middle of a book it is shown, in dollars a share."""
RISE, FALL, NEUTRAL = "#1b7f5c", "#c0392b", "#4c6a92"

alt.data_transformers.disable_max_rows()


def candles(lake: Lake) -> alt.VConcatChart:
    """Five-minute bars of an evening, with the volume; dark is what buyers took, where trades say it."""
    rows = lake.scan(
        "gold.candles", venue="kraken", instrument_id="BTC/USDT", interval="5m", start="2025-11-10T15:00"
    ).collect()
    base = alt.Chart(rows).encode(alt.X("open_at:T", title=None, axis=alt.Axis(format="%H:%M")))
    way = alt.condition("datum.close >= datum.open", alt.value(RISE), alt.value(FALL))
    price = alt.Y("low:Q", title="USDT", scale=alt.Scale(zero=False))
    bars = (
        base.mark_rule().encode(price, alt.Y2("high:Q"), color=way),
        base.mark_bar(size=3).encode(alt.Y("open:Q", title="USDT"), alt.Y2("close:Q"), color=way),
        base.mark_tick(size=4, thickness=1).encode(alt.Y("close:Q", title="USDT"), color=way),
    )
    root = {"title": "BTC", "scale": alt.Scale(type="sqrt"), "axis": alt.Axis(values=[1, 5, 20, 50])}
    volume = base.mark_bar(size=3, color="#b9c6d8").encode(alt.Y("volume:Q", **root))
    bought = base.mark_bar(size=3, color=NEUTRAL).encode(alt.Y("buy_volume:Q", **root))
    title = _title(
        "Kraken BTC/USDT, 5 minutes, 2025-11-10 (UTC)",
        "Below: volume, on a root scale; dark: bought by takers, where trades are here",
    )
    return alt.layer(*bars).properties(width=WIDTH, height=260, title=title) & alt.layer(
        volume, bought
    ).properties(width=WIDTH, height=80)


def volatility(lake: Lake) -> alt.VConcatChart:
    """Five estimators from daily bars; realised volatility and its part without jumps from hourly bars."""
    of_market = {"venue": "binance", "instrument_id": "BTC/USDT"}
    estimators = ("close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang")
    daily = (
        lake.scan("gold.volatility", interval="1d", end="2020-02-01", **of_market)
        .filter(pl.col("window") == pl.col("window").max())
        .select("event_at", "window", *estimators)
        .collect()
    )
    window = daily["window"][0]
    long = daily.unpivot(estimators, index="event_at", variable_name="estimator", value_name="volatility")
    hourly = lake.scan("gold.realised_volatility", end="2020-08-01", **of_market).collect()
    realised = hourly.unpivot(
        ("realised_volatility", "bipower_volatility"),
        index="event_at",
        variable_name="estimator",
        value_name="volatility",
    )
    estimated = _lines(
        long,
        color="estimator",
        y="volatility",
        title=_title(f"Binance BTC/USDT, {window} daily bars, 2019", "Volatility a year of 365 days"),
    )
    by_day = _lines(
        realised,
        color="estimator",
        y="volatility",
        title=_title(
            "The same market from hourly bars, 2020",
            "By day: realised, and by bipower variation (without jumps)",
        ),
    )
    return (estimated & by_day.properties(height=160)).resolve_scale(color="independent")


def macro_vintages(lake: Lake) -> alt.LayerChart:
    """Growth of GDP as it was known day by day, beside what the newest vintage says of the same quarters."""
    start, end = datetime(2007, 1, 1, tzinfo=UTC), datetime(2012, 1, 1, tzinfo=UTC)
    known = lake.scan("gold.macro_panel", series_id="GDP", versions=True)
    then = known.select(at="known_at", growth="yoy_growth", told=pl.lit("as it was known that day"))
    newest = (
        lake.scan("silver.observations", series_id="GDP")
        .sort("event_at")
        .select(
            at="event_at",
            growth=pl.col("value") / pl.col("value").shift(4) - 1,
            told=pl.lit("as known in December 2024, at the quarter's end"),
        )
    )
    rows = pl.concat([then, newest]).filter(pl.col("at").is_between(start, end)).sort("told", "at").collect()
    base = alt.Chart(rows).encode(
        alt.X("at:T", title=None),
        alt.Y("growth:Q", title="growth over a year", axis=alt.Axis(format=".0%")),
        alt.Color("told:N", title=None, legend=_legend(), scale=alt.Scale(range=[FALL, NEUTRAL])),
    )
    shown = alt.datum.told == "as it was known that day"
    title = _title(
        "United States GDP (nominal)", "What a reader of that day saw, and what is said of it today"
    )
    return alt.layer(
        base.transform_filter(shown).mark_line(interpolate="step-after"),
        base.transform_filter(alt.datum.told != "as it was known that day").mark_line(point=True),
    ).properties(width=WIDTH, height=260, title=title)


def global_liquidity(lake: Lake) -> alt.VConcatChart:
    """Dollar credit outside the United States, and its growth."""
    rows = lake.scan("gold.global_liquidity", currency="USD").collect()
    rows = rows.with_columns(credit_tn=pl.col("credit") / 1e12, loans_tn=pl.col("loans") / 1e12)
    amounts = rows.unpivot(
        ("credit_tn", "loans_tn"), index="event_at", variable_name="of", value_name="amount"
    ).with_columns(of=pl.col("of").replace({"credit_tn": "credit", "loans_tn": "bank loans among it"}))
    title = _title("US dollar credit to non-banks outside the United States", "Trillions of dollars")
    level = _lines(amounts, color="of", y="amount", title=title, form="~s")
    growth = (
        alt.Chart(rows)
        .mark_bar(size=5)
        .encode(
            alt.X("event_at:T", title=None),
            alt.Y("yoy_growth:Q", title="growth over a year", axis=alt.Axis(format=".0%")),
            color=alt.condition("datum.yoy_growth >= 0", alt.value(RISE), alt.value(FALL)),
        )
    )
    return level & growth.properties(width=WIDTH, height=110)


def prediction(lake: Lake) -> alt.LayerChart:
    """Prices of the outcomes of one event, and the probabilities once the overround is taken out."""
    rows = (
        lake.scan("gold.prediction_panel")
        .filter((pl.col("outcome") == "Yes") & pl.col("probability").is_not_null())
        .collect()
    )
    title = _title(
        f"{rows['event_title'][0]} (2026, Polymarket)",
        f"The five prices add up to {1 + rows['overround'][0]:.4f}; probabilities are each price over that",
    )
    base = alt.Chart(rows.sort("probability", descending=True)).encode(
        alt.Y("group_item_title:N", title=None, sort=None),
        alt.X(
            "probability:Q",
            title="probability",
            axis=alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1]),
            scale=alt.Scale(domain=[0, 1.3]),
        ),
    )
    label = base.transform_calculate(
        text="format(datum.probability, '.2%') + '  (price ' + format(datum.price, '.4f') + ')'"
    ).mark_text(align="left", dx=4)
    return alt.layer(base.mark_bar(color=NEUTRAL), label.encode(text="text:N")).properties(
        width=WIDTH - 80, height=170, title=title
    )


def liquidity(lake: Lake) -> alt.HConcatChart:
    """A book as it was sent, and what an order would pay beyond the middle of it."""
    market = (
        lake.scan("silver.prediction_markets")
        .filter(pl.col("outcome") == "Yes", pl.col("group_item_title") == "No change")
        .select(instrument_id="token_id")
    )
    book = lake.scan("silver.book_snapshots").join(market, on="instrument_id", how="semi").collect()
    told = lake.scan("gold.liquidity").join(market, on="instrument_id", how="semi").collect()
    return alt.hconcat(_depth(book, told), _slippage(told)).resolve_scale(color="independent")


def reconciliation(lake: Lake) -> alt.LayerChart:
    """How many bars made here say the same as the venue's own, figure by figure."""
    figures = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
    named = pl.format("{} {} {}, from {}", "venue", "instrument_id", "interval", "rebuilt_from")
    rows = (
        lake.scan("gold.reconciliation")
        .select(bars=named, **{one: f"{one}_reason" for one in figures})
        .unpivot(figures, index="bars", variable_name="figure", value_name="reason")
        .filter(pl.col("reason") != "not_compared")
        .group_by("bars", "figure")
        .agg(
            agreeing=pl.col("reason").is_in(("equal", "rounding")).sum(),
            compared=pl.len(),
            share=pl.col("reason").is_in(("equal", "rounding")).mean(),
        )
        .collect()
        .with_columns(text=pl.format("{} of {}", "agreeing", "compared"))
        .sort("bars", "figure")
    )
    base = alt.Chart(rows).encode(
        alt.X("figure:N", title=None, sort=figures, axis=alt.Axis(labelAngle=0, orient="top")),
        alt.Y("bars:N", title=None, axis=alt.Axis(labelLimit=260)),
    )
    cells = base.mark_rect(stroke="white").encode(
        alt.Color(
            "share:Q", title=None, legend=None, scale=alt.Scale(domain=[0, 1], range=["#f2c1b8", "#bfe3d3"])
        )
    )
    title = _title(
        "Bars made here beside the venue's own", "Figures that agree, of those that both sides tell"
    )
    return alt.layer(cells, base.mark_text().encode(text="text:N")).properties(
        width=WIDTH - 160, height=45 * rows["bars"].n_unique(), title=title
    )


def derivatives(lake: Lake) -> alt.VConcatChart:
    """What a contract costs over its spot market, and what its holders paid for that in another month."""
    rows = lake.scan("gold.derivatives", venue="binance", interval="1d").collect()
    basis = rows.filter(pl.col("basis_to_spot").is_not_null(), pl.col("open_at").dt.year() == 2019)
    paid = rows.filter(pl.col("funding_rate").is_not_null())
    widest = basis.row(int(basis["basis_to_spot"].abs().arg_max() or 0), named=True)
    title = _title(
        "Binance BTC/USDT:USDT over BTC/USDT at the day's end, 2019",
        f"Basis to spot; {widest['open_at']:%Y-%m-%d} is cut off, at {widest['basis_to_spot']:.2%}",
    )
    over = (
        alt.Chart(basis)
        .mark_bar(size=4, clip=True)
        .encode(
            alt.X("open_at:T", title=None),
            alt.Y(
                "basis_to_spot:Q",
                title=None,
                axis=alt.Axis(format=".2%"),
                scale=alt.Scale(domain=[-0.002, 0.002]),
            ),
            color=alt.condition("datum.basis_to_spot >= 0", alt.value(RISE), alt.value(FALL)),
        )
    )
    funding = _lines(
        paid,
        color="instrument_id",
        y="funding_rate",
        x="open_at",
        form=".3%",
        title=_title("Funding settled in the day, 2020", "What longs pay, of the position's value"),
    )
    return over.properties(width=WIDTH, height=180, title=title) & funding.properties(height=180)


PLOTS: Mapping[str, Callable[[Lake], alt.TopLevelMixin]] = {
    "candles": candles,
    "reconciliation": reconciliation,
    "volatility": volatility,
    "derivatives": derivatives,
    "liquidity": liquidity,
    "macro_vintages": macro_vintages,
    "global_liquidity": global_liquidity,
    "prediction": prediction,
}


def save(lake: Lake, folder: Path) -> None:
    """Write every plot to `<folder>/<name>.svg`; needs vl-convert-python."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in PLOTS.items():
        plot(lake).save(folder / f"{name}.svg")


def _lines(
    rows: pl.DataFrame, *, color: str, y: str, title: alt.TitleParams, x: str = "event_at", form: str = ".0%"
) -> alt.Chart:
    return (
        alt.Chart(rows)
        .mark_line(strokeWidth=1.5)
        .encode(
            alt.X(f"{x}:T", title=None),
            alt.Y(f"{y}:Q", title=None, axis=alt.Axis(format=form)),
            alt.Color(f"{color}:N", title=None, legend=_legend()),
        )
        .properties(width=WIDTH, height=220, title=title)
    )


def _depth(book: pl.DataFrame, told: pl.DataFrame) -> alt.Chart:
    """What stands between the middle and a price, three cents to either side."""
    sides = [
        book.select(side=pl.lit(side), price=f"{side}_prices", amount=f"{side}_amounts")
        .explode("price", "amount")
        .with_columns(depth=pl.col("amount").cum_sum())
        for side in ("bid", "ask")
    ]
    middle, spread = told["mid"][0], told["ask"][0] - told["bid"][0]
    near = pl.concat(sides).filter((pl.col("price") - middle).abs() <= NEAR)
    return (
        alt.Chart(near)
        .mark_bar(size=6)
        .encode(
            alt.X(
                "price:Q",
                title="price",
                axis=alt.Axis(format=".3f", tickCount=6),
                scale=alt.Scale(zero=False, domain=[middle - NEAR, min(middle + NEAR, 1)]),
            ),
            alt.Y("depth:Q", title="shares up to that price", stack=None, axis=alt.Axis(format="~s")),
            _side("bid", "ask"),
        )
        .properties(
            width=WIDTH - 270,
            height=220,
            title=_title("Polymarket: no change in June, the book of Yes", f"Best prices {spread:.3f} apart"),
        )
    )


def _slippage(told: pl.DataFrame) -> alt.Chart:
    rows = (
        told.unpivot([name for name in told.columns if "_slippage_" in name], value_name="bps")
        .drop_nulls()
        .with_columns(
            side=pl.col("variable").str.extract("^(buy|sell)"),
            size=pl.col("variable").str.extract("slippage_([^_]+)_").str.to_uppercase(),
        )
    )
    sizes = alt.X("size:N", title="order, USDC", sort=["10K", "100K", "1M"], axis=alt.Axis(labelAngle=0))
    return (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            sizes,
            alt.Y("bps:Q", title="bps of the middle"),
            alt.XOffset("side:N"),
            _side("buy", "sell"),
        )
        .properties(width=190, height=220, title=_title("Slippage", "None where the book ends before"))
    )


def _side(first: str, second: str) -> alt.Color:
    scale = alt.Scale(domain=[first, second], range=[RISE, FALL])
    return alt.Color("side:N", title=None, legend=_legend(), scale=scale)


def _legend() -> alt.Legend:
    return alt.Legend(orient="bottom", columns=5, labelLimit=320)


def _title(text: str, below: str) -> alt.TitleParams:
    return alt.TitleParams(text, subtitle=below, anchor="start")


if __name__ == "__main__":
    save(Lake.open(), Path(sys.argv[1]))
