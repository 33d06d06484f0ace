"""What runs measure: in `ops.metrics`, in `mnemo show`, and for Prometheus."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments import show
from lakehouse import Lake
from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.contract import Column, Table
from lakehouse.errors import MnemoError
from lakehouse.fields import EVENT_AT, PROVENANCE
from lakehouse.measured import Spent, measure
from lakehouse.metrics import Fetching, newest, record
from lakehouse.ops import METRICS
from lakehouse.promotion import promote_pages
from lakehouse.publish import Promoted, Run
from lakehouse.settings import Settings
from lakehouse.verdict import Verdict
from tasks.prometheus import expose

DAY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR_S = 3600.0
FACTS = Table(
    name="silver.trades",
    doc="Facts.",
    columns=(
        Column(name="name", dtype=pl.String(), doc="Name."),
        EVENT_AT,
        *PROVENANCE,
        Column(name="price", dtype=pl.Float64(), above=0, doc="Price."),
    ),
    key=("name",),
    subject=("name",),
    owner="tests",
)
SOURCE = bronze_table("test_prices")


@pytest.fixture
def later() -> Run:
    """A run two days after what it promotes."""
    return Run(run_id="r1", code_version="0", now=lambda: DAY + timedelta(days=2))


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    rows = [
        {
            "name": name,
            "event_at": DAY,
            "known_at": DAY,
            "ingested_at": page["received_at"],
            "page_id": page["page_id"],
            "provider": "test",
            "price": price,
        }
        for page in pages.iter_rows(named=True)
        for name, price in json.loads(page["body"]).items()
    ]
    return pl.DataFrame(rows, schema=dict(FACTS.schema) | {"price": pl.String()}, orient="row").lazy()


def deliver(store, prices: dict[str, str], *, hour: int) -> None:
    page = Page(
        feed="test_prices",
        subject="s",
        request={"url": f"https://example.org/{hour}"},
        received_at=DAY + timedelta(hours=hour),
        body=json.dumps(prices).encode(),
    )
    store.open(SOURCE).append(pages_frame([page], run_id="r", code_version="0"), positions={}, said={})


def promote(store, run: Run) -> list[Promoted]:
    return promote_pages(
        store,
        FACTS,
        SOURCE,
        parse,
        judge=lambda batch: Verdict(batch=batch, findings=(), reasons={}),
        run=run,
        parse_error=MnemoError,
    )


def built_from_facts(batch_id: str, published_at: datetime) -> Promoted:
    """What promoting a gold table made of the facts says."""
    nothing = FACTS.schema.to_frame()
    spent = Spent(wall_s=0.5, cpu_s=0.25)
    return Promoted(
        table="gold.candles",
        inputs=("silver.trades",),
        batch_id=batch_id,
        level="passed",
        published_rows=0,
        quarantined_rows=0,
        measured=measure(FACTS, nothing, judged_rows=0, judging=spent, published_at=published_at),
    )


def test_a_promotion_says_how_late_its_rows_were_and_what_judging_cost(store, later):
    deliver(store, {"a": "1", "b": "2", "c": "-3"}, hour=6)

    (row,) = record(store, later, promoted=promote(store, later)).to_dicts()

    assert (row["kind"], row["table"], row["run_id"]) == ("promotion", "silver.trades", "r1")
    assert (row["rows"], row["new_rows"], row["held_rows"]) == (3, 2, 1)
    assert row["event_to_received_p50_s"] == row["event_to_received_p99_s"] == 6 * HOUR_S
    assert row["received_to_published_p95_s"] == 42 * HOUR_S
    assert row["input_to_published_p50_s"] is None
    assert row["lag_s"] == 48 * HOUR_S
    assert row["size_bytes"] > 0
    assert 0 <= row["gate_wall_s"] <= row["wall_s"]
    assert 0 <= row["gate_cpu_s"] <= row["cpu_s"]


def test_quantiles_are_those_of_the_rows(store, later):
    for hour in range(1, 21):
        deliver(store, {f"name{hour}": "1"}, hour=hour)

    (row,) = record(store, later, promoted=promote(store, later)).to_dicts()

    told = [row[f"event_to_received_{quantile}_s"] / HOUR_S for quantile in ("p50", "p95", "p99")]
    assert told == [pytest.approx(10.5, abs=0.5), 19, 20]


def test_a_run_writes_its_figures_in_one_commit(store, later):
    deliver(store, {"a": "1"}, hour=1)
    first = promote(store, later)
    deliver(store, {"b": "1"}, hour=2)
    fetch = Fetching(feed="f", subject="s", pages=2, new_pages=1, size_bytes=10, wall_s=0.5)
    other = Fetching(feed="f", subject="t", pages=1, new_pages=1, size_bytes=5, wall_s=0.1)

    record(store, later, promoted=[*first, *promote(store, later)], fetched=[fetch, fetch, other])

    stored = store.find(METRICS)
    assert stored.version == 1
    rows = stored.scan().sort("table", "subject").collect()
    fetched = rows.filter(pl.col("kind") == "fetch").select(
        "table", "subject", "rows", "new_rows", "size_bytes"
    )
    assert fetched.rows() == [("bronze.f", "s", 4, 2, 20), ("bronze.f", "t", 1, 1, 5)]
    assert rows.filter(pl.col("kind") == "promotion")["new_rows"].to_list() == [1, 1]
    assert rows.n_unique(METRICS.key) == rows.height


def test_a_run_that_did_nothing_writes_nothing(store, later):
    assert record(store, later).is_empty()
    assert store.find(METRICS) is None


def test_gold_says_how_long_what_is_new_in_silver_lay_there(store):
    at = iter(DAY + timedelta(hours=hour) for hour in (10, 20))
    for name in ("a", "b"):
        deliver(store, {name: "1"}, hour=1)
        moment = next(at)
        promote(store, Run(run_id="r", code_version="0", now=lambda moment=moment: moment))
    run = Run(run_id="g", code_version="0", now=lambda: DAY)

    (row,) = record(store, run, promoted=[built_from_facts("g1", DAY + timedelta(hours=21))]).to_dicts()

    assert [row[f"input_to_published_{q}_s"] / HOUR_S for q in ("p50", "p95", "p99")] == [1, 11, 11]
    assert row["event_to_received_p50_s"] is None


def test_show_prints_the_newest_figures_of_a_table(store, capsys):
    now = datetime.now(UTC)
    run = Run(run_id="r2", code_version="0", now=lambda: now)
    fetch = Fetching(feed="ccxt_trades", subject="s", pages=4, new_pages=4, size_bytes=9, wall_s=2.0)
    record(store, run, promoted=[built_from_facts("old", now - timedelta(hours=1))])
    record(store, run, promoted=[built_from_facts("new", now)], fetched=[fetch])
    lake = Lake(store)

    show.table(lake, "gold.candles", as_json=True)
    (figures,) = json.loads(capsys.readouterr().out)["figures"]
    show.table(lake, "gold.candles", as_json=False)

    assert (figures["batch_id"], figures["gate_wall_s"]) == ("new", 0.5)
    assert "requests" not in figures
    assert "gate_wall_s" in capsys.readouterr().out
    (fetched,) = show.figures(lake, bronze_table("ccxt_trades"))
    assert fetched["rows_per_s"] == 2.0


class Gateway(BaseHTTPRequestHandler):
    """Takes what is pushed to it as a Pushgateway does."""

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.pushed.append((self.path, body.decode()))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def gateway():
    server = HTTPServer(("127.0.0.1", 0), Gateway)
    server.pushed = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def samples(text: str) -> dict[tuple, float]:
    """Values by the metric's name and its labels, in the order of the labels' names."""
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_prometheus_reads_the_same_figures_from_the_file_and_from_the_gateway(
    store, later, tmp_path, gateway, monkeypatch
):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    file = tmp_path / "collector" / "mnemo.prom"
    settings = Settings(metrics_file=file, metrics_push_url=f"http://127.0.0.1:{gateway.server_address[1]}")
    fetch = Fetching(feed="f", subject="BTC/USD", pages=3, new_pages=1, size_bytes=10, wall_s=0.5)
    deliver(store, {"a": "1", "b": "2"}, hour=6)
    record(store, later, promoted=promote(store, later))
    record(store, later, fetched=[fetch])

    expose(newest(store, now=later.now()), settings)

    ((path, pushed),) = gateway.pushed
    assert path == "/metrics/job/mnemo"
    told = samples(file.read_text())
    assert told == samples(pushed)
    assert told["mnemo_promotion_new_rows", "", "silver.trades"] == 2
    assert told["mnemo_latency_seconds", "event_to_received", "0.95", "silver.trades"] == 6 * HOUR_S
    assert told["mnemo_fetch_requests", "BTC/USD", "bronze.f"] == 3
    assert ("mnemo_promotion_gate_cpu_seconds", "", "silver.trades") in told
    assert [one.name for one in file.parent.iterdir()] == ["mnemo.prom"]


def test_a_gateway_that_is_not_there_is_an_error_that_a_run_can_live_with():
    settings = Settings(metrics_push_url="http://127.0.0.1:9")
    with pytest.raises(OSError, match="refused"):
        expose(METRICS.schema.to_frame(), settings)
