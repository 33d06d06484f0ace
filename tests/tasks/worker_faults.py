"""Preloaded by the workers of a test's cluster: pages of a subject that begins with `poison` kill who reads them."""

import os

import polars as pl

from sources import registry


def dask_setup(_worker) -> None:
    feed = registry.feed("coinmetrics_asset_metrics")
    parse = feed.parse

    def deadly(pages: pl.DataFrame) -> pl.LazyFrame:
        if pages["subject"].str.starts_with("poison").any():
            os._exit(1)
        return parse(pages)

    object.__setattr__(feed, "parse", deadly)
