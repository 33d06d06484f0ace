"""What Data Docs cost: a page more, the indexes over a thousand verdicts, and opening them in a browser.

Opening needs playwright (group browser) and a Chromium; without them that figure is left out.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import polars as pl

from benchmarks.report import Figure, figure, report
from expectations.docs import build_index, page_key, prune, sidecar_key
from expectations.gate import Gate
from lakehouse.catalog import tables
from lakehouse.conform import conform
from lakehouse.files import LocalFiles
from lakehouse.verdict import Batch

_AT = datetime(2024, 1, 1, tzinfo=UTC)
_VERDICTS = 1000
_PAGES = 20


def main() -> None:
    """Run all and report."""
    with TemporaryDirectory() as folder:
        report("docs", _figures(Path(folder)))


def _figures(home: Path) -> Iterator[Figure]:
    files = LocalFiles(home)
    with_page, without = Gate(files), Gate(None)
    without.judge(_batch(0))  # imports the library
    judged = _cpu_s(lambda: [without.judge(_batch(number)) for number in range(_PAGES)]) / _PAGES
    written = _cpu_s(lambda: [with_page.judge(_batch(number)) for number in range(_PAGES)]) / _PAGES
    yield figure("a page more", written - judged, "CPU s")
    for number in range(_VERDICTS):
        _put_verdict(files, number)
    yield figure("index of 1,000 verdicts, none seen before", _cpu_s(lambda: _index(files)), "CPU s")
    _put_verdict(files, _VERDICTS)
    yield figure("index of 1,000 verdicts, one of them new", _cpu_s(lambda: _index(files)), "CPU s")
    if (opened_ms := _opened_ms(home / "docs" / "index.html")) is not None:
        yield figure("index of 1,000 verdicts opens without a network", opened_ms, "ms")
    before = _AT + timedelta(hours=_VERDICTS)
    yield figure("pruning them", _cpu_s(lambda: prune(files, before=before)), "CPU s")


def _cpu_s(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _index(files: LocalFiles) -> str:
    return build_index(files, now=_AT)


def _batch(number: int) -> Batch:
    """A batch of trades that cannot be published."""
    table = tables()["silver.trades"]
    schema = {column.name: column.dtype for column in table.columns if column.derived is None}
    frame = conform(table, pl.DataFrame([{"price": -1.0}] * 20, schema=schema).lazy()).collect()
    return Batch(batch_id=f"b{number:015x}", table=table, inputs=("bronze.f",), frame=frame, judged_at=_AT)


def _put_verdict(files: LocalFiles, number: int) -> None:
    names = sorted(name for name in tables() if not name.startswith("ops."))
    table, batch_id = names[number % len(names)], f"{number:016x}"
    summary = {
        "table": table,
        "batch_id": batch_id,
        "judged_at": f"{_AT + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}",
        "level": "warning",
        "rows": number,
        "failed_rows": number,
        "reasons": {"price_too_low": number},
        "remarks": {},
        "failed": {"warning": 1},
    }
    files.put(page_key(table, batch_id), b"<p>page</p>")
    files.put(sidecar_key(table, batch_id), orjson.dumps(summary))


def _opened_ms(index: Path) -> float | None:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    if not found:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        page.goto(index.as_uri())
        opened = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        browser.close()
    return float(opened)


if __name__ == "__main__":
    main()
