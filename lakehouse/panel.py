"""Features on a grid of times: for each asset and moment what was known then, as `Lake.features` gives it.

The columns are those of gold.features (its FEATURES are data), and the bar itself. Unlike in the stored table the times
are the caller's, and an asset need not have bars. Nothing here touches storage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import polars as pl

from lakehouse.asof import join_known, newest_events
from lakehouse.contract import UTC_US
from lakehouse.errors import UsageError, unknown
from lakehouse.gold import candles
from lakehouse.gold.features import FEATURES, Feature
from lakehouse.window import Window

_THIS_BAR = {name: name for name in ("venue", "instrument_id", "interval", "event_at")}

BAR = (
    Feature(
        name="close",
        doc="Price of the last trade of the last bar.",
        unit="quote",
        table="gold.candles",
        where=candles.COMPLETE,
        value=pl.col("close"),
        by=_THIS_BAR,
    ),
    Feature(
        name="volume",
        doc="Amount traded in the last bar, in the bar's volume_unit.",
        unit="volume_unit",
        table="gold.candles",
        where=candles.COMPLETE,
        value=pl.col("volume"),
        by=_THIS_BAR,
    ),
    Feature(
        name="log_return",
        doc="ln of the last bar's close over that of the bar before it.",
        unit="log return",
        table="gold.features",
        where=pl.lit(value=True),
        value=pl.col("log_return"),
        by=_THIS_BAR,
    ),
)
COLUMNS = (*BAR, *FEATURES)
"""All that can be asked for, by name."""

Reader = Callable[[str], pl.LazyFrame]
"""All versions of the rows of a table that may be used."""

_EVERY = re.compile(r"(?P<number>[1-9]\d*)(?P<unit>[mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ASSET = re.compile(r"(?:(?P<venue>[a-z0-9_]+):)?(?P<instrument_id>[^/\s]+/\S+)|(?P<asset>[a-z0-9_.]+)")
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Asset:
    """What the caller calls it, and what can be looked up by: the asset alone, its market, or a venue's market."""

    name: str
    base_asset: str
    venue: str | None
    instrument_id: str | None


def catalogue() -> pl.DataFrame:
    """Every feature: name, unit, source (the table), per (what it is told of), doc."""
    said = [(f.name, f.unit, f.table, ", ".join(_by(f)) or "everything", f.doc) for f in COLUMNS]
    return pl.DataFrame(said, schema=["name", "unit", "source", "per", "doc"], orient="row")


def read_assets(names: Sequence[str]) -> tuple[Asset, ...]:
    """Assets by the names that people use; UsageError for none at all and for what can be no asset."""
    if not names:
        raise UsageError("features are of assets: name some, such as btc, BTC/USD or kraken:BTC/USD")
    return tuple(_read_asset(name) for name in dict.fromkeys(names))


def read_every(text: str) -> timedelta:
    """The step of a grid; UsageError for what is none."""
    found = _EVERY.fullmatch(text)
    if not found:
        raise UsageError(f"every={text!r} is no step: a number and m, h, d or w, such as 15m, 1h or 1d")
    return timedelta(**{_UNITS[found["unit"]]: int(found["number"])})


def choose(columns: Sequence[str] | None, assets: Sequence[Asset]) -> tuple[Feature, ...]:
    """The features of those names, in that order; all by default.

    UsageError for a name that there is not, and for one that can be told of none of the assets.
    """
    if columns is None:
        return COLUMNS
    known = {feature.name: feature for feature in COLUMNS}
    chosen = []
    for name in dict.fromkeys(columns):
        if name not in known:
            raise unknown("feature", name, known)
        keys = _by(known[name])
        if not any(all(getattr(asset, key) for key in keys) for asset in assets):
            raise UsageError(
                f"feature {name!r} is told by {' and '.join(keys)}: "
                "name assets as venue and instrument, such as kraken:BTC/USD"
            )
        chosen.append(known[name])
    return tuple(chosen)


def build_grid(
    assets: Sequence[Asset], window: Window, every: timedelta, features: Sequence[Feature], read: Reader
) -> pl.LazyFrame:
    """A row for each asset and grid point, with four columns for each feature; see `Lake.features`."""
    named = pl.LazyFrame(assets, schema=dict.fromkeys(Asset.__annotations__, pl.String)).rename(
        {"name": "asset"}
    )
    points = pl.datetime_range(window.start, window.end, every, closed="left", time_unit="us", eager=True)
    grid = named.join(points.cast(UTC_US).to_frame("at").lazy(), how="cross")
    bars = "1d" if every >= _DAY else "1h"
    for feature in features:
        grid = _add(grid, _on_grid(feature, bars), read)
    told = [name for feature in features for name in _names(feature)]
    return grid.select("asset", "at", *told).sort("asset", "at")


def _read_asset(name: str) -> Asset:
    found = _ASSET.fullmatch(name)
    if not found:
        raise UsageError(f"{name!r} is no asset: name it as btc, BTC/USD or kraken:BTC/USD")
    base = found["asset"] or found["instrument_id"].partition("/")[0].lower()
    return Asset(name=name, base_asset=base, venue=found["venue"], instrument_id=found["instrument_id"])


def _by(feature: Feature) -> Mapping[str, str]:
    """The columns of the grid that a feature is looked up by: bars are the newest of the grid's interval."""
    return {ours: theirs for ours, theirs in feature.by.items() if ours not in ("interval", "event_at")}


def _on_grid(feature: Feature, bars: str) -> Feature:
    if not feature.describes_bar:
        return feature
    return replace(feature, by=_by(feature), where=feature.where & (pl.col("interval") == bars))


def _names(feature: Feature) -> tuple[str, ...]:
    return tuple(feature.name + suffix for suffix in ("", "_known_at", "_lag", "_source"))


def _add(grid: pl.LazyFrame, feature: Feature, read: Reader) -> pl.LazyFrame:
    name, known_at, lag, source = _names(feature)
    stated = read(feature.table).filter(feature.where).with_columns(stated=feature.value).drop_nulls("stated")
    columns = {"stated": name, "known_at": known_at, "event_at": "of"}
    newest = newest_events(stated, by=tuple(feature.by.values()))
    joined = join_known(grid, newest, at="at", by=feature.by, columns=columns)
    return joined.with_columns(
        (pl.col("at") - pl.col("of")).alias(lag),
        pl.when(pl.col("of").is_not_null()).then(pl.lit(feature.table)).alias(source),
    ).drop("of")
