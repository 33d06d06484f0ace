"""Data Docs: indexes over many verdicts, pages that go and pages that stay, and Great Expectations' own stores."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson
import polars as pl
import pytest

from expectations.docs import (
    address_of,
    bring,
    bring_page,
    build_index,
    page_key,
    prune,
    sidecar_key,
)
from expectations.gate import Gate
from lakehouse.conform import conform
from lakehouse.contract import UTC_US, Column, Table
from lakehouse.errors import UsageError
from lakehouse.files import LocalFiles
from lakehouse.settings import Settings
from lakehouse.verdict import Batch

AT = datetime(2024, 1, 2, 3, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)


def table(name: str = "silver.samples") -> Table:
    return Table(
        name=name,
        doc="For these tests.",
        columns=(
            Column(name="event_at", dtype=UTC_US, doc="Time."),
            Column(name="low", dtype=pl.Float64(), doc="Low.", above=0),
            Column(name="side", dtype=pl.String(), doc="Side.", nullable=True, values=("buy", "sell")),
        ),
        key=("event_at",),
        subject=("side",),
        owner="tests",
        tolerance=0.1,
    )


def batch(batch_id: str, *, of: str = "silver.samples", bad: int = 0, judged_at: datetime = AT) -> Batch:
    """Twenty rows of which so many are bad."""
    rows = {
        "event_at": [AT + timedelta(seconds=n) for n in range(20)],
        "low": ["-1"] * bad + ["1"] * (20 - bad),
        "side": ["buy"] * 20,
    }
    schema = {"event_at": UTC_US, "low": pl.String, "side": pl.String}
    frame = conform(table(of), pl.LazyFrame(rows, schema=schema)).collect()
    return Batch(
        batch_id=batch_id, table=table(of), inputs=("bronze.samples",), frame=frame, judged_at=judged_at
    )


def put_page(files, batch_id: str, *, of: str = "silver.samples", at: datetime = AT, **said) -> None:
    """A page as an older release wrote it: its summary does not count failed expectations."""
    summary = {
        "table": of,
        "batch_id": batch_id,
        "judged_at": at.isoformat().replace("+00:00", "Z"),
        "level": "passed",
        "rows": 20,
        "failed_rows": 0,
        "reasons": {},
        "remarks": {},
    }
    files.put(page_key(of, batch_id), b"<p>page</p>")
    files.put(sidecar_key(of, batch_id), orjson.dumps({**summary, **said}))


def pages(files, of: str = "silver.samples") -> set[str]:
    found = (key.removeprefix(f"docs/{of}/") for key in files.keys(f"docs/{of}/"))
    return {name for name in found if not name.startswith("index.")}


@dataclass(frozen=True)
class CountingFiles(LocalFiles):
    """Files that note what is read of them."""

    read: list[str] = field(default_factory=list)

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return super().get(key)


@pytest.fixture(params=["folder", "s3"])
def files(request, tmp_path):
    """The lake's files, on both kinds of store."""
    return LocalFiles(tmp_path) if request.param == "folder" else request.getfixturevalue("store").files


def test_the_summary_beside_a_page_counts_failed_expectations_by_severity(tmp_path):
    files = LocalFiles(tmp_path)
    Gate(files).judge(batch("b3", bad=3))
    assert orjson.loads(files.get("docs/silver.samples/b3.json")) == {
        "table": "silver.samples",
        "batch_id": "b3",
        "judged_at": "2024-01-02T03:00:00Z",
        "level": "blocked",
        "rows": 20,
        "failed_rows": 3,
        "reasons": {"low_too_low": 3},
        "remarks": {},
        "failed": {"critical": 1, "warning": 1},
    }


@pytest.mark.parametrize("batch_id", ["9876543210987654", "20240102", "00000000000000e9"])
def test_a_batch_whose_id_looks_like_a_number_has_a_page_like_any_other(tmp_path, batch_id):
    files = LocalFiles(tmp_path)
    verdict = Gate(files).judge(batch(batch_id))
    assert batch_id in files.get(verdict.docs_key).decode()


def test_the_index_has_a_line_for_each_table_and_what_needs_a_look_comes_first(files):
    gate = Gate(files)
    gate.judge(batch("a1", of="silver.alpha"))
    gate.judge(batch("b1", of="silver.beta", bad=9))
    gate.judge(batch("b2", of="silver.beta", bad=1, judged_at=AT + timedelta(hours=1)))
    index = files.get(build_index(files, now=NOW)).decode()
    assert index.index('href="silver.beta/index.html"') < index.index('href="silver.alpha/index.html"')
    assert 'href="silver.beta/b2.html"' in index
    assert "b1.html" not in index
    beta = files.get("docs/silver.beta/index.html").decode()
    assert beta.index('href="b2.html"') < beta.index('href="b1.html"')
    assert '<span class="severity critical">1 critical</span>' in beta
    assert "<code>low_too_low</code> 9" in beta


@pytest.mark.parametrize("key", ["docs/index.html", "docs/silver.samples/index.html"])
def test_an_index_loads_nothing_and_runs_nothing(tmp_path, key):
    files = LocalFiles(tmp_path)
    put_page(files, "b1", reasons={"<script>alert(1)</script>": 1})
    build_index(files, now=NOW)
    page = files.get(key).decode()
    assert not any(loaded in page for loaded in ("http://", "https://", "src=", "<script", "<link"))
    assert "default-src 'none'" in page


def test_an_index_of_nothing_says_so(files):
    assert "No batch has been judged yet." in files.get(build_index(files, now=NOW)).decode()


def test_a_table_page_names_the_newest_and_says_how_to_find_the_others(tmp_path):
    files = LocalFiles(tmp_path)
    for day in (1, 2, 3):
        put_page(files, f"b{day}", at=AT + timedelta(days=day))
    build_index(files, now=NOW, shown=2)
    page = files.get("docs/silver.samples/index.html").decode()
    assert page.index("b3.html") < page.index("b2.html")
    assert "b1.html" not in page
    assert "1 older pages are kept and not listed" in page


def test_each_summary_is_read_once_unless_its_batch_is_judged_again(tmp_path):
    files = CountingFiles(tmp_path)
    for number in range(20):
        put_page(files, f"b{number}")
    build_index(files, now=NOW)
    files.read.clear()
    put_page(files, "b20")
    put_page(files, "b3", level="blocked", rows=21)
    build_index(files, now=NOW)
    sidecars = {key for key in files.read if not key.endswith("index.json")}
    assert sidecars == {"docs/silver.samples/b20.json", "docs/silver.samples/b3.json"}
    assert '<span class="tally blocked">1 blocked</span>' in files.get("docs/index.html").decode()


def test_pruning_keeps_what_is_young_the_newest_of_each_table_and_what_is_held(files):
    for number in range(10):
        put_page(files, f"b{number}", at=AT + timedelta(days=number))
    put_page(files, "only", of="silver.rare")
    removed = prune(files, before=AT + timedelta(days=5), held={"b1"}, kept=2)
    assert removed == 4
    kept = ["b1", *(f"b{number}" for number in range(5, 10))]
    assert pages(files) == {f"{name}.{kind}" for name in kept for kind in ("html", "json")}
    assert pages(files, "silver.rare") == {"only.html", "only.json"}
    build_index(files, now=NOW)
    assert "b0.html" not in files.get("docs/silver.samples/index.html").decode()


def test_a_page_that_a_killed_gate_left_alone_goes_once_it_is_old(files):
    put_page(files, "b1")
    files.put("docs/silver.samples/orphan.html", b"<p>page</p>")
    assert prune(files, before=AT) == 0
    assert prune(files, before=datetime.now(UTC) + timedelta(days=1)) == 1
    assert pages(files) == {"b1.html", "b1.json"}


def test_eight_promotions_at_once_lose_no_page_while_the_index_is_built_and_old_pages_go(store):
    files = store.files
    put_page(files, "old", at=AT - timedelta(days=100))
    batches = [[f"w{worker}b{number}" for number in range(4)] for worker in range(8)]
    begin = threading.Barrier(9)

    def judge(names: list[str]) -> None:
        gate = Gate(files)
        begin.wait()
        for name in names:
            gate.judge(batch(name))

    def keep_house() -> None:
        begin.wait()
        for _ in range(4):
            prune(files, before=AT - timedelta(days=1), kept=1)
            build_index(files, now=NOW)

    with ThreadPoolExecutor(9) as pool:
        done = [*(pool.submit(judge, names) for names in batches), pool.submit(keep_house)]
        for one in done:
            one.result()
    prune(files, before=AT - timedelta(days=1), kept=1)
    build_index(files, now=NOW)
    wanted = {f"{name}.{kind}" for names in batches for name in names for kind in ("html", "json")}
    assert pages(files) == wanted
    table_page = files.get("docs/silver.samples/index.html").decode()
    assert all(f'href="{name}.html"' in table_page for names in batches for name in names)


def test_docs_are_brought_home_without_a_write_to_the_lake_and_only_what_is_new(tmp_path, store):
    put_page(store.files, "b1")
    put_page(store.files, "b2")
    index = bring(store.files, tmp_path, now=NOW)
    assert "silver.samples" in index.read_text()
    first = (index.parent / "silver.samples/b1.html").stat().st_mtime_ns
    store.files.delete(["docs/silver.samples/b2.html", "docs/silver.samples/b2.json"])
    put_page(store.files, "b3")
    bring(store.files, tmp_path, now=NOW)
    assert pages(LocalFiles(tmp_path)) == {"b1.html", "b1.json", "b3.html", "b3.json"}
    assert (index.parent / "silver.samples/b1.html").stat().st_mtime_ns == first
    assert [key for key in store.files.keys("docs/") if "index" in key] == []


def test_one_page_is_brought_home_by_the_beginning_of_its_batch(tmp_path):
    lake, home = LocalFiles(tmp_path / "lake"), tmp_path / "home"
    put_page(lake, "1f3a")
    put_page(lake, "2b4c")
    assert bring_page(lake, home, "1f").read_text() == "<p>page</p>"
    with pytest.raises(UsageError, match="unknown batch with a page"):
        bring_page(lake, home, "7")


@pytest.mark.parametrize(
    ("docs_url", "address"),
    [
        ("", "s3://lake/mnemo/docs/silver.trades/1f.html"),
        ("https://docs.example.org/verdicts/", "https://docs.example.org/verdicts/silver.trades/1f.html"),
    ],
)
def test_a_page_has_an_address_under_the_public_one_or_in_the_lake(docs_url, address):
    assert address_of(Settings(docs_url=docs_url), page_key("silver.trades", "1f")) == address


@pytest.fixture
def gx_context(settings, monkeypatch):
    """Makes contexts whose stores are all on the lake of `settings`."""
    from expectations.polars_gx.library import gx

    types = gx.data_context.types.base
    for name in ("lake", "s3_endpoint", "s3_access_key"):
        monkeypatch.setenv(f"MNEMO_{name.upper()}", getattr(settings, name))
    monkeypatch.setenv("MNEMO_S3_SECRET_KEY", settings.s3_secret_key.get_secret_value())

    def made():
        stores = types.InMemoryStoreBackendDefaults()
        for name, said in stores.stores.items():
            said["store_backend"] = {
                "module_name": "expectations.lake_store",
                "class_name": "LakeStoreBackend",
                "folder": f"gx/{name}",
            }
        config = types.DataContextConfig(
            store_backend_defaults=stores, progress_bars=types.ProgressBarsConfig(globally=False)
        )
        return gx.get_context(mode="ephemeral", project_config=config)

    return made


def test_suites_and_results_of_great_expectations_itself_are_kept_in_the_lake(gx_context, store):
    from expectations.polars_gx.library import ExpectationSuite, InvalidKeyError, gx, gxe

    context = gx_context()
    whole = context.data_sources.add_polars("polars").add_dataframe_asset("rows")
    suite = context.suites.add(
        ExpectationSuite(name="trades", expectations=[gxe.ExpectColumnValuesToNotBeNull(column="price")])
    )
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(
            name="trades", data=whole.add_batch_definition_whole_dataframe("whole"), suite=suite
        )
    )
    definition.run(batch_parameters={"dataframe": pl.DataFrame({"price": [1.0, None]})})

    other = gx_context()
    assert [one.name for one in other.suites.all()] == ["trades"]
    (key,) = other.validation_results_store.list_keys()
    result = other.validation_results_store.get(key)
    assert (result.success, result.statistics["evaluated_expectations"]) == (False, 1)
    assert all(name.endswith(".json") for name in store.files.keys("gx/"))
    other.suites.delete("trades")
    assert gx_context().suites.all() == []
    with pytest.raises(InvalidKeyError):
        other.expectations_store.store_backend.get(("trades",))
