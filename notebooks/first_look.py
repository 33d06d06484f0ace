"""A first look at the gold tables of the demo's lake.

make notebook   # after `make demo`
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="A first look at gold")


@app.cell
def _():
    import gold_plots
    import marimo as mo
    import polars as pl

    import lakehouse

    return gold_plots, lakehouse, mo, pl


@app.cell
def _(lakehouse):
    lake = lakehouse.Lake.open()
    return (lake,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # A first look at gold

    Everything here is read from the lake that `make demo` filled with recorded answers of the providers. A table is a
    Polars LazyFrame: filter first, collect last.
    """)
    return


@app.cell
def _(lake, mo, pl):
    tables = pl.DataFrame(lake.tables()).filter(pl.col("table").str.starts_with("gold."))
    mo.ui.table(tables.select("table", "rows", "subjects"), selection=None)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Candles

    Bars of any interval, made from trades where they are here, else rolled up from finer bars; `built_from` says which.
    """)
    return


@app.cell
def _(lake):
    lake.scan("gold.candles", venue="kraken", instrument_id="BTC/USDT", interval="5m").tail(3).collect()
    return


@app.cell
def _(gold_plots, lake):
    gold_plots.candles(lake)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Reconciliation

    The same bars as the venue made them, figure by figure, each difference with its reason.
    """)
    return


@app.cell
def _(gold_plots, lake):
    gold_plots.reconciliation(lake)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Volatility
    """)
    return


@app.cell
def _(gold_plots, lake):
    gold_plots.volatility(lake)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Derivatives: basis and funding
    """)
    return


@app.cell
def _(gold_plots, lake):
    gold_plots.derivatives(lake)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Liquidity
    """)
    return


@app.cell
def _(gold_plots, lake):
    gold_plots.liquidity(lake)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## What was known when

    A revised figure is a new row. `as_of` reads what was known at a moment, `versions=True` all that ever was.
    """)
    return


@app.cell
def _(lake):
    growth = lake.scan("silver.observations", series_id="GDP", as_of="2009-05-01")
    growth.select("period_start", "known_at", "value", "unit").tail(3).collect()
    return


@app.cell
def _(gold_plots, lake):
    gold_plots.macro_vintages(lake)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Global liquidity
    """)
    return


@app.cell
def _(gold_plots, lake):
    gold_plots.global_liquidity(lake)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Prediction markets
    """)
    return


@app.cell
def _(gold_plots, lake):
    gold_plots.prediction(lake)
    return


if __name__ == "__main__":
    app.run()
