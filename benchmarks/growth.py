"""How cost grows with what is stored and with what is new. `python -m benchmarks.growth`

Synthetic trades: 4 instruments of one venue in turn, 200,000 a day (one each 432 ms), prices as text with 8 decimals,
1,000 a page; stored a day a commit, in bronze pages without their text. Onto 200,000, 2 and 20 million stored trades
come 200,000 new ones; and 20,000, 200,000 and 2 million new ones come onto 2 million stored and what came before. CPU
seconds of this process on the embedded S3 server, medians of three after one that warms up; the sizes take turns, so
that the machine's own ups and downs meet all of them:

- landing: pages of about 40 kB to bronze, with the record of their fetch; making up the text is left out
- judging: the gate alone, no page written
- promoting: bronze to silver.trades through the gate
- candles: gold.candles of what is new, through the gate
- reading: what is new, by time, through `Lake.scan`; and of what is stored always the same hour

An exponent is the slope of log cost over log size, between the last two sizes and over all three: 1 is in proportion,
0 is no growth.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median

import polars as pl

from benchmarks.loopback import lake, settings_of
from benchmarks.report import Figure, figure, report
from expectations.gate import Gate
from lakehouse import Lake
from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.errors import MnemoError
from lakehouse.gold import candles
from lakehouse.promotion import position_name, promote_model, promote_pages
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.silver.trades import TABLE
from lakehouse.store import open_store
from lakehouse.verdict import Batch, Verdict
from lakehouse.window import Window
from sources.client import Client
from sources.feed import Feed
from sources.ingest import ingest

START = datetime(2024, 1, 1, tzinfo=UTC)
A_DAY = 200_000
STEP_MS = 86_400_000 // A_DAY
A_PAGE = 1_000
INSTRUMENTS = 4
STORED = (A_DAY, 10 * A_DAY, 100 * A_DAY)
NEW = (A_DAY // 10, A_DAY, 10 * A_DAY)
RUNS = 3
MOST_STORED, MOST_NEW = 0.1, 1.05
"""Exponents that are asked for."""
STEPS = ("landing", "judging", "promoting", "candles", "reading")

Spent = Mapping[str, Sequence[float]]
"""CPU seconds of each step, a run each."""


def figures(settings: Settings) -> Iterator[Figure]:
    with Client(settings) as client:
        grown = {size: Grown.filled(settings, client, size) for size in STORED}
        for one in grown.values():
            one.add(A_DAY)
        stored = in_turn({size: partial(one.add, A_DAY) for size, one in grown.items()})
        new = in_turn({count: partial(grown[STORED[1]].add, count) for count in NEW})
    for step in STEPS:
        yield from of_sizes(
            step, {size: spent[step] for size, spent in stored.items()}, "stored", MOST_STORED
        )
    hour = {size: spent["the same hour"] for size, spent in stored.items()}
    yield from of_sizes("reading one hour", hour, "stored", MOST_STORED)
    for step in STEPS:
        yield from of_sizes(step, {size: spent[step] for size, spent in new.items()}, "new", MOST_NEW)


def in_turn(adds: Mapping[int, Callable[[], Mapping[str, float]]]) -> Mapping[int, Spent]:
    """What adding costs at each size, step by step."""
    spent: dict[int, defaultdict[str, list[float]]] = {size: defaultdict(list) for size in adds}
    for _ in range(RUNS):
        for size, add in adds.items():
            for step, seconds in add().items():
                spent[size][step].append(seconds)
    return spent


def of_sizes(step: str, spent: Mapping[int, Sequence[float]], of: str, goal: float) -> Iterator[Figure]:
    """The cost at each size, then the exponents."""
    for size, runs in spent.items():
        given = f"{A_DAY:,} new trades onto {size:,}" if of == "stored" else f"{size:,} new trades"
        yield figure(f"{step}: {given}", runs, "CPU s")
    sizes, medians = list(spent), [median(runs) for runs in spent.values()]
    yield figure(
        f"{step}: exponent in {of} data, last two", slope(sizes[1:], medians[1:]), "exponent", goal=goal
    )
    yield figure(f"{step}: exponent in {of} data, all", slope(sizes, medians), "exponent", goal=goal)


def slope(sizes: Sequence[int], spent: Sequence[float]) -> float:
    """From the first to the last."""
    return math.log(spent[-1] / spent[0]) / math.log(sizes[-1] / sizes[0])


@dataclass
class Grown:
    """A lake to which trades are added."""

    lake: Lake
    client: Client
    trades: int = 0
    judged_s: list[float] = field(default_factory=list)

    @classmethod
    def filled(cls, settings: Settings, client: Client, trades: int) -> Grown:
        """Store trades the fast way: what is measured is adding to them."""
        store = open_store(settings.model_copy(update={"lake": f"s3://lake/{uuid.uuid4().hex}"}))
        table, bronze = store.open(TABLE), store.open(FEED.bronze)
        for first in range(0, trades, A_DAY):
            frame = conform(TABLE, made_up(numbered(first, A_DAY))).collect()
            table.append(frame.select(TABLE.schema.names()), positions={}, said={})
            held = pages_frame(pages(first, A_DAY), run_id="b", code_version="0")
            bronze.append(held, positions={}, said={})
        grown = cls(Lake(store), client, trades)
        consumed = {position_name(TABLE, bronze): bronze.version}
        table.append(TABLE.schema.to_frame(), positions=consumed, said={})
        promote_model(store, candles.MODEL, judge=grown.judge, run=RUN)
        return grown

    def add(self, count: int) -> dict[str, float]:
        """CPU seconds of each step for so many new trades."""
        first, store, window = self.trades, self.lake.store, span(self.trades, count)
        self.trades += count
        self.judged_s.clear()
        arrived = list(pages(first, count, text(first, count)))
        feed = replace(FEED, fetch=lambda *_: iter(arrived))
        landing = cpu_s(lambda: ingest(store, feed, "benchmark", window, client=self.client, run=RUN))
        promoting = cpu_s(lambda: self.promote(count))
        judging = sum(self.judged_s)
        model = cpu_s(lambda: promote_model(store, candles.MODEL, judge=self.judge, run=RUN))
        return {
            "landing": landing,
            "judging": judging,
            "promoting": promoting,
            "candles": model,
            "reading": cpu_s(lambda: self.read(window, count)),
            "the same hour": cpu_s(lambda: self.read(HOUR, HOUR_ROWS)),
        }

    def promote(self, count: int) -> None:
        """All that has landed."""
        done = promote_pages(
            self.lake.store, TABLE, FEED.bronze, parse, judge=self.judge, run=RUN, parse_error=MnemoError
        )
        assert sum(one.published_rows for one in done) == count

    def read(self, window: Window, count: int) -> None:
        """A slice of all columns."""
        assert self.lake.scan(TABLE.name, start=window.start, end=window.end).collect().height == count

    def judge(self, batch: Batch) -> Verdict:
        """The gate, timed."""
        began = time.process_time()
        verdict = Gate(None).judge(batch)
        self.judged_s.append(time.process_time() - began)
        return verdict


def cpu_s(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


# Made-up trades


def span(first: int, count: int) -> Window:
    """When so many trades happen."""
    start, end = (START + timedelta(milliseconds=STEP_MS * number) for number in (first, first + count))
    return Window(start, end)


def made_up(numbers: pl.LazyFrame) -> pl.LazyFrame:
    """The trades of some numbers, column `n`, as a parser would give them."""
    n = pl.col("n")
    at = pl.lit(START) + pl.duration(milliseconds=n * STEP_MS)
    return numbers.select(
        venue=pl.lit("benchmark"),
        instrument_id=pl.concat_str(pl.lit("A"), n % INSTRUMENTS, pl.lit("/USD")),
        trade_id=n.cast(pl.String),
        event_at=at,
        known_at=at,
        ingested_at=at,
        page_id=n // A_PAGE,
        provider=pl.lit("benchmark"),
        price=pl.concat_str(pl.lit(100) + n % 97, pl.lit(".12345678")),
        amount=pl.concat_str(pl.lit("0.0"), n % 89 + 1),
        amount_unit=pl.lit("base"),
        side=pl.when(n % 2 == 0).then(pl.lit("buy")).otherwise(pl.lit("sell")),
    )


def numbered(first: int, count: int) -> pl.LazyFrame:
    return pl.select(pl.int_range(first, first + count, dtype=pl.Int64).alias("n")).lazy()


def text(first: int, count: int) -> Sequence[str]:
    """What the pages of so many trades say of them, one text a page."""
    said = made_up(numbered(first, count)).select("trade_id", "event_at", "price", "amount", "side").collect()
    return [said[start : start + A_PAGE].write_csv(include_header=False) for start in range(0, count, A_PAGE)]


def pages(first: int, count: int, texts: Sequence[str] = ()) -> Iterator[Page]:
    """Pages that came two minutes after the last of their trades. The first line says which trades they stand for."""
    received_at = span(first, count).end + timedelta(minutes=2)
    for place, start in enumerate(range(first, first + count, A_PAGE)):
        said = texts[place] if texts else ""
        yield Page(
            feed=FEED.name,
            subject="benchmark",
            request={"method": "GET", "url": f"https://example.org/{start}"},
            received_at=received_at,
            body=f"{start}\n{said}".encode(),
        )


def parse(found: pl.DataFrame) -> pl.LazyFrame:
    """A page's first line says which trades it stands for: parsing is measured elsewhere."""
    starts = [int(body[:20].partition(b"\n")[0]) for body in found["body"]]
    each = pl.LazyFrame({"start": starts}, schema={"start": pl.Int64})
    return made_up(each.select(pl.int_ranges("start", pl.col("start") + A_PAGE).alias("n")).explode("n"))


def _no_fetch(_client: Client, _subject: str, _window: Window) -> Iterator[Page]:
    return iter(())


FEED = Feed(
    name="benchmark_trades",
    provider="benchmark",
    doc="Made-up trades.",
    table=TABLE,
    subjects="benchmark",
    fetch=_no_fetch,
    parse=parse,
)
RUN = Run(run_id="b", code_version="0", now=lambda: datetime.now(UTC))
HOUR_ROWS = A_DAY // 24 + 1
HOUR = Window(START + timedelta(hours=12), START + timedelta(hours=13))


def main() -> None:
    """Print a JSON object a figure and keep them in `benchmarks/results/growth.json`."""
    with lake() as around:
        report("growth", figures(settings_of(around)))


if __name__ == "__main__":
    main()
