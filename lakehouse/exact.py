"""Sums that do not depend on the order of their terms.

Floating point sums change in the last digits with the order of rows, and a rebuilt row would look like a
revision. Fixed point sums do not, and amounts that were decimal text add up to what the text adds up to.
"""

from __future__ import annotations

import polars as pl

AMOUNT_DECIMALS = 12
"""More than any venue trades in; amounts up to 1e26 fit."""
PRODUCT_DECIMALS = 18
"""For products and quotients, which may be tiny; up to 1e20 fit."""


def exact(value: pl.Expr, *, decimals: int) -> pl.Expr:
    """A float as fixed point, ready to be summed. Raises InvalidOperationError for NaN and for what does not fit."""
    return value.cast(pl.Decimal(38, decimals))


def inexact(total: pl.Expr) -> pl.Expr:
    """A sum of fixed point numbers as a float."""
    return total.cast(pl.Float64)
