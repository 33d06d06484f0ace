"""An order book from its changes: whether it is whole, what lies in it, and what an order would have cost.

make notebook   # needs no lake: the market is made up by the offline twin
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="An order book")


@app.cell
def _():
    import altair as alt
    import made_up_market
    import marimo as mo
    import polars as pl

    return alt, made_up_market, mo, pl


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # An order book

    An hour of a made-up Kraken, recorded by the session that records the real one. The market is chance: amounts at
    ten prices a side come and go, and the middle stays where it is. What to look at is the way from frames to
    figures.

    Three messages are lost on the way, and the venue takes twenty seconds to send a fresh snapshot. On a lake with
    live frames, read `silver.book_updates`, `silver.book_snapshots` and `gold.liquidity` instead; the columns are
    the same.
    """)
    return


@app.cell
def _(made_up_market):
    pages = made_up_market.record(minutes=60, lost=(700, 2500, 4200))
    updates = made_up_market.updates(pages)
    snapshots = made_up_market.snapshots(pages)
    liquidity = made_up_market.liquidity(snapshots)
    return liquidity, pages, snapshots, updates


@app.cell
def _(mo, pages, pl, snapshots, updates):
    invalid = updates.filter(~pl.col("is_valid"))
    mo.md(
        f"{pages.height:,} pages, {updates.height:,} changes of the book, {snapshots.height:,} books of a second. "
        f"{invalid.height} changes came while the book was not whole: its checksum was not the venue's."
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Whole or not

    A lost message is not seen when it is lost but with the next one, whose checksum no longer agrees. From there to
    the next snapshot every row says `is_valid = false`. A study that does not filter on it reads books that never
    were.
    """)
    return


@app.cell
def _(pl, updates):
    spells = (
        updates.sort("frame")
        .with_columns(pl.col("is_valid").rle_id().alias("spell"))
        .group_by("spell", maintain_order=True)
        .agg(
            pl.col("is_valid").first(),
            pl.col("check").first(),
            pl.col("event_at").min().alias("since"),
            pl.col("event_at").max().alias("until"),
            pl.len().alias("changes"),
        )
        .drop("spell")
    )
    spells
    return (spells,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Imbalance

    (bid - ask) / (bid + ask) of the amounts at the best prices, minute by minute; red is when the book was not
    whole.
    """)
    return


@app.cell
def _(alt, liquidity, pl, spells):
    broken = alt.Chart(spells.filter(~pl.col("is_valid"))).mark_rect(color="#c0392b", opacity=0.6)
    line = alt.Chart(liquidity).mark_line(interpolate="step-after", color="#4c6a92")
    imbalance = alt.layer(
        broken.encode(x=alt.X("since:T", title=None), x2="until:T"),
        line.encode(
            x="open_at:T", y=alt.Y("imbalance_best:Q", title="imbalance", scale=alt.Scale(domain=[-1, 1]))
        ),
    ).properties(width=700, height=160)
    imbalance
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## What an order would have cost

    `gold.liquidity` takes the first whole book of each minute and lets an order eat into it. Where the levels end
    before the order is filled the figure is null, not a guess.
    """)
    return


@app.cell
def _(alt, liquidity, pl):
    costs = liquidity.unpivot(
        on=[f"{side}_slippage_{size}_bps" for side in ("buy", "sell") for size in ("10k", "100k", "1m")],
        index="open_at",
        value_name="bps",
    ).with_columns(
        pl.col("variable").str.extract(r"^(\w+?)_", 1).alias("side"),
        pl.col("variable").str.extract(r"_(\w+?)_bps$", 1).str.replace("slippage_", "").alias("size"),
    )
    cost_chart = (
        alt.Chart(costs.drop_nulls("bps"))
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("open_at:T", title=None),
            y=alt.Y("bps:Q", title="basis points"),
            color="size:N",
            row="side:N",
        )
        .properties(width=700, height=110)
    )
    cost_chart
    return (costs,)


@app.cell
def _(costs, pl):
    costs.group_by("side", "size").agg(
        pl.col("bps").mean().round(4).alias("mean_bps"),
        pl.col("bps").max().round(4).alias("worst_bps"),
        pl.col("bps").null_count().alias("minutes_without_enough"),
    ).sort("side", "size")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## One book
    """)
    return


@app.cell
def _(alt, pl, snapshots):
    last = snapshots.filter("is_valid").tail(1)
    levels = pl.concat(
        last.select(
            pl.col(f"{side}_prices").alias("price"),
            pl.col(f"{side}_amounts").alias("amount"),
            side=pl.lit(side),
        )
        .explode("price", "amount")
        .with_columns(pl.col("amount").cum_sum().alias("depth"))
        for side in ("bid", "ask")
    )
    book_chart = (
        alt.Chart(levels)
        .mark_area(interpolate="step-after", opacity=0.6)
        .encode(
            x=alt.X("price:Q", title="USD", scale=alt.Scale(zero=False)),
            y=alt.Y("depth:Q", title="BTC up to this price"),
            color=alt.Color("side:N", scale=alt.Scale(domain=["bid", "ask"], range=["#1b7f5c", "#c0392b"])),
        )
        .properties(width=700, height=220)
    )
    book_chart
    return


if __name__ == "__main__":
    app.run()
