"""What every bar keeps, whoever built it."""

import polars as pl

from lakehouse.contract import Rule
from lakehouse.expects import OnGrid

BAR_RULES = (
    Rule(
        name="high_below_low",
        check=pl.col("high") >= pl.col("low"),
        reason="high is below low",
    ),
    Rule(
        name="high_not_highest",
        check=pl.col("high") >= pl.max_horizontal("open", "close"),
        reason="open or close is above high",
    ),
    Rule(
        name="low_not_lowest",
        check=pl.col("low") <= pl.min_horizontal("open", "close"),
        reason="open or close is below low",
    ),
    Rule(
        name="known_before_close",
        check=pl.col("known_at") >= pl.col("event_at"),
        reason="the bar was known before it was closed",
    ),
)

BARS_ON_GRID = OnGrid(
    name="bars_on_grid",
    meaning="Bars begin at multiples of their interval and are as long as it",
)
