"""silver.asset_metrics: on-chain and reference metrics of assets, with their review status."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.expects import LikePast
from lakehouse.fields import EVENT_AT, KNOWN_AT_BASIS, PROVENANCE, VALUE

TABLE = Table(
    name="silver.asset_metrics",
    doc="Metrics per asset and frequency in long form; a restated value is a new row.",
    columns=(
        Column(name="asset", dtype=pl.String(), doc="Asset by the provider's id: btc, eth."),
        Column(name="metric", dtype=pl.String(), doc="Metric by the provider's name: PriceUSD, AdrActCnt."),
        Column(name="frequency", dtype=pl.String(), doc="1b, 1s, 1m, 1h, 1d, 1d-ny-close."),
        EVENT_AT.but(
            doc="The provider's stamp: the start of the interval for interval metrics, the moment for others. "
            "A daily PriceUSD is stamped with the start of the day at whose end it was taken."
        ),
        *PROVENANCE,
        KNOWN_AT_BASIS,
        VALUE,
        Column(
            name="status",
            dtype=pl.String(),
            nullable=True,
            values=("flash", "reviewed", "revised"),
            doc="Review status, for metrics that are reviewed.",
        ),
    ),
    key=("asset", "metric", "frequency", "event_at", "known_at"),
    subject=("asset", "metric", "frequency"),
    owner="on-chain",
    expects=(
        LikePast(
            name="like_past",
            meaning="Values are within a hundredfold of those of the weeks around, rows a day within a tenfold",
            rows_factor=10,
            levels={"value": 100},
            rows=10,
        ),
    ),
    freshness=timedelta(days=3),
)
