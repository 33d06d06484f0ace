"""CoinMetrics answers of the demo, from the examples in the provider's own OpenAPI file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

from lakehouse.window import Window, parse_moment
from sources import coin_metrics
from sources.coin_metrics_pages import COMMUNITY, PAID
from sources.twin.convert import mit_notice
from sources.twin.recording import Recording

PROVIDER = "coinmetrics"

PROVENANCE = f"""\
# CoinMetrics

Bitcoin in the examples of the provider's OpenAPI file (real values, two rows each): PriceUSD and SplyBMXNtv
by day, ReferenceRate by second, FlowTfrToExCnt and PriceUSD by block, and the answer that refuses a metric.

Source: [coinmetrics/api-client-python](https://github.com/coinmetrics/api-client-python), `openapi.yaml`,
components/responses AssetMetrics and Forbidden, commit 5f3752667b14. The data are of February to June 2020;
when they were asked for is not said, so the recordings carry no time of receipt. Licence of that
repository: MIT, below.

The addresses are those of our own requests, with a key and without one (community host; whether that host
serves SplyBMXNtv or metrics by block in truth is not known). Changed in the bodies: `next_page_token` and
`next_page_url` were removed, so that each is the whole answer for its window. The status of the refusal is
the documented 403.

The community data set itself is not here: it is licensed CC BY-NC 4.0, for non-commercial use only.

{mit_notice("2020 Oleksandr Buchkovskyi")}"""

_FOLDER = Path("coinmetrics/api-examples")
_ANSWERS = (
    ("AssetMetrics_daily_metrics.json", "btc:PriceUSD,SplyBMXNtv@1d", "2020-02-29", "2020-03-02", 200),
    (
        "AssetMetrics_by_second_frequency_metrics.json",
        "btc:ReferenceRate@1s",
        "2020-06-18T11:36:09",
        "2020-06-18T11:36:11",
        200,
    ),
    (
        "AssetMetrics_block_by_block_metrics.json",
        "btc:FlowTfrToExCnt,PriceUSD@1b",
        "2020-06-18T10:30:00",
        "2020-06-18T11:10:00",
        200,
    ),
    ("Forbidden.json", "btc:SplyBMXNtv@1d", "2020-02-29", "2020-03-02", 403),
)


def recordings(shared: Path) -> Iterator[Recording]:
    """Each example as the answer of either host."""
    for name, subject, start, end, status in _ANSWERS:
        window = Window(parse_moment(start), parse_moment(end))
        params = coin_metrics.question(subject, window).first_page
        said = json.loads((shared / _FOLDER / name).read_bytes())
        body = {field: value for field, value in said.items() if not field.startswith("next_page_")}
        for host in (PAID, COMMUNITY):
            yield Recording(
                url=f"{host.url}{coin_metrics.PATH}?{urlencode(params)}",
                status=status,
                headers={"content-type": "application/json"},
                body=json.dumps(body, separators=(",", ":")).encode(),
            )
