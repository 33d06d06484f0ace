"""Pages of streams become rows of silver: trades, book updates, book snapshots, book orders. Pure.

Pages are rows of the bronze tables of any streams, of one or more connections, in any order. A frame of an order book
is understood together with the frames since the one that its book rests on (`rests_on` in the page's request); where
those are not among the pages, it gives no row here, since it has given one where they were. So neither how frames
were cut into batches nor what was read again can be seen in silver.

A page that cannot be read raises ParseError; `unreadable` names all of them. Parsed without those, the numbers of the
frames show the hole, and the books of that connection are not valid up to their next snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
import polars as pl

from lakehouse.contract import UTC_US, Table
from lakehouse.silver import book_orders, book_snapshots, book_updates, trades
from sources.errors import ParseError
from sources.stream import Channel, Frame
from sources.venues.keeping import NO_BOOK, Desk, Keeper, Verdict
from sources.venues.said import (
    UNREADABLE,
    BookSaid,
    Checksum,
    Counted,
    Depth,
    Dropped,
    Merged,
    OrdersSaid,
    Reached,
    Said,
    Topic,
    Trade,
    moment_us,
)
from sources.venues.session import Reread, VenueStream

Streams = Mapping[str, VenueStream]

SNAPSHOT_DEPTH = 50
_SECOND_US = 1_000_000


class Page(NamedTuple):
    """A page as far as it is needed here."""

    page_id: int
    stream: VenueStream
    subject: str
    connection_id: str
    number: int
    kind: str
    received_us: int
    topics: dict[str, Topic]
    rests_on: dict[str, int | None]
    """By book, the oldest frame that must be here for the page to give rows."""
    starts_on: dict[str, int]
    """By book, the oldest frame that must be here for a REST snapshot to be judged as it was."""
    said: Sequence[Said]


def trade_rows(pages: pl.DataFrame, streams: Streams) -> pl.LazyFrame:
    """Rows of silver.trades."""
    columns = _Columns(trades.TABLE)
    for page in _pages(pages, streams):
        for said in page.said:
            if isinstance(said, Trade):
                topic = page.topics[said.key]
                columns.add(
                    page,
                    topic,
                    event_at=said.at_ms * 1000,
                    known_at=said.at_ms * 1000,
                    trade_id=said.trade_id,
                    price=said.price,
                    amount=said.amount,
                    amount_unit=topic.amount_unit,
                    side=said.side,
                )
    return columns.frame()


def book_update_rows(pages: pl.DataFrame, streams: Streams) -> pl.LazyFrame:
    """Rows of silver.book_updates."""
    columns = _Columns(book_updates.TABLE)
    for step in _steps(pages, streams):
        said = step.said
        if isinstance(said, BookSaid):
            columns.add(
                step.page,
                step.topic,
                **_of_frame(step),
                part=step.part,
                event_at=_at(said.at_us, step.page),
                bid_prices=[level[0] for level in said.bids],
                bid_amounts=[level[1] for level in said.bids],
                ask_prices=[level[0] for level in said.asks],
                ask_amounts=[level[1] for level in said.asks],
            )
    return columns.frame()


def book_order_rows(pages: pl.DataFrame, streams: Streams) -> pl.LazyFrame:
    """Rows of silver.book_orders."""
    columns = _Columns(book_orders.TABLE)
    for step in _steps(pages, streams):
        said = step.said
        if isinstance(said, OrdersSaid):
            shared = _of_frame(step)
            for part, event in enumerate(said.events, start=step.part):
                columns.add(
                    step.page,
                    step.topic,
                    **shared,
                    part=part,
                    event_at=_at(event.at_us if event.at_us is not None else said.at_us, step.page),
                    action=event.action,
                    order_id=event.order_id,
                    side=event.side,
                    price=event.price or None,
                    amount=event.amount or None,
                )
    return columns.frame()


def book_snapshot_rows(pages: pl.DataFrame, streams: Streams) -> pl.LazyFrame:
    """Rows of silver.book_snapshots: each book by price level at the end of each second in which a frame changed it.

    Seconds are those of our receipt. The second of a book's newest frame is told once a later frame of that book,
    or the end of the connection, shows that it is over; a connection that ends within it has its book told then.
    """
    columns = _Columns(book_snapshots.TABLE)
    for second in _seconds(pages, streams):
        keeper, verdict = second.keeper, second.verdict
        bids, asks = keeper.book.bids(SNAPSHOT_DEPTH), keeper.book.asks(SNAPSHOT_DEPTH)
        columns.add(
            second.page,
            keeper.topic,
            event_at=second.end_us,
            known_at=second.end_us,
            sequence=keeper.last,
            bid_prices=[level[0] for level in bids],
            bid_amounts=[level[1] for level in bids],
            ask_prices=[level[0] for level in asks],
            ask_amounts=[level[1] for level in asks],
            amount_unit=keeper.topic.amount_unit,
            is_valid=verdict.is_valid,
            check=verdict.check,
        )
    return columns.frame()


def unreadable(pages: pl.DataFrame, streams: Streams) -> tuple[tuple[int, str], ...]:
    """Page id and reason of each page that cannot be read."""
    found, reading = [], _Reading(streams)
    for row in _in_order(pages):
        try:
            reading.page(row)
        except ParseError as error:
            found.append((int(row["page_id"]), str(error)))
    return tuple(found)


@dataclass
class _Step:
    """One book after one frame, or one of its parts."""

    page: Page
    part: int
    said: Depth
    topic: Topic
    verdict: Verdict


@dataclass
class _Second:
    """A book at the end of a second, and the frame that it was made by."""

    page: Page
    keeper: Keeper
    verdict: Verdict
    end_us: int


@dataclass
class _Connection:
    """The frames of one connection heard again, from the first of the pages on."""

    stream: VenueStream
    first: int
    desk: Desk = field(init=False)
    number: int | None = None
    counted: int | None = None
    newest: dict[tuple[str, Channel], Page] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.desk = Desk(self.stream.rules)

    def turn_to(self, page: Page) -> None:
        """A jump in the numbers shows that a frame is not here: nothing is known of its books any more."""
        if self.number is not None and page.number != self.number + 1:
            self._break("frames are missing")
        self.number = page.number

    def can_judge(self, page: Page, instrument_id: str, channel: Channel) -> bool:
        """Whether all is here that the book of a frame rests on."""
        rests_on = page.rests_on.get(f"{channel} {instrument_id}")
        return rests_on is None or rests_on >= self.first

    def take(self, page: Page, said: Depth, topic: Topic) -> Verdict:
        channel = _channel(said)
        keeper = self._keeper(topic, channel)
        if said.is_http and page.starts_on.get(f"{channel} {topic.instrument_id}", page.number) < self.first:
            return keeper.verdict()
        return keeper.take(said, page.number, page.received_us, lambda: said)

    def hear(self, page: Page, said: Said) -> None:
        if isinstance(said, Checksum):
            topic = page.topics[said.key]
            self._keeper(topic, topic.channel or "book").verify(said.value)
        elif isinstance(said, Dropped):
            self._keeper(page.topics[said.key], "book").break_(said.reason)
        elif isinstance(said, Counted):
            if self.counted is not None and said.number != self.counted + 1:
                self._break("frames are missing")
            self.counted = said.number

    def second_before(self, page: Page, instrument_id: str) -> _Second | None:
        """The book as it was at the end of the second of its newest frame, if that is over, or of the connection."""
        key: tuple[str, Channel] = (instrument_id, "book")
        newest, keeper = self.newest.get(key), self.desk.keepers.get(key)
        if newest is None or keeper is None or keeper.rests_on is None:
            return None
        end_us = (newest.received_us // _SECOND_US + 1) * _SECOND_US
        if page.kind == "disconnect":
            end_us = min(end_us, page.received_us)
        if page.received_us < end_us or not self.can_judge(page, *key):
            return None
        del self.newest[key]
        return _Second(newest, keeper, keeper.verdict(), end_us)

    def _keeper(self, topic: Topic, channel: Channel) -> Keeper:
        return self.desk.keeper(topic.instrument_id, channel, topic)

    def _break(self, reason: str) -> None:
        for keeper in self.desk.keepers.values():
            keeper.break_(reason)


def _steps(pages: pl.DataFrame, streams: Streams) -> Iterator[_Step]:
    """Every frame of an order book that can be judged, with the verdict on its book."""
    for connection, page in _heard(pages, streams):
        part = 0
        for said in page.said:
            if not isinstance(said, BookSaid | OrdersSaid):
                connection.hear(page, said)
                continue
            topic = page.topics[said.key]
            verdict = connection.take(page, said, topic)
            if connection.can_judge(page, topic.instrument_id, _channel(said)):
                yield _Step(page, part, said, topic, verdict)
            part += 1 if isinstance(said, BookSaid) else len(said.events)


def _seconds(pages: pl.DataFrame, streams: Streams) -> Iterator[_Second]:
    for connection, page in _heard(pages, streams):
        touched = (said.key for said in page.said if isinstance(said, BookSaid))
        over = page.topics if page.kind == "disconnect" else touched
        for instrument_id in dict.fromkeys(page.topics[key].instrument_id for key in over):
            second = connection.second_before(page, instrument_id)
            if second:
                yield second
        for said in page.said:
            if isinstance(said, BookSaid | OrdersSaid):
                topic = page.topics[said.key]
                connection.take(page, said, topic)
                connection.newest[topic.instrument_id, _channel(said)] = page
            else:
                connection.hear(page, said)


def _heard(pages: pl.DataFrame, streams: Streams) -> Iterator[tuple[_Connection, Page]]:
    connection, connection_id = None, None
    for page in _pages(pages, streams):
        if connection is None or page.connection_id != connection_id:
            connection, connection_id = _Connection(page.stream, page.number), page.connection_id
        connection.turn_to(page)
        yield connection, page


def _pages(pages: pl.DataFrame, streams: Streams) -> Iterator[Page]:
    reading = _Reading(streams)
    for row in _in_order(pages):
        yield reading.page(row)


def _in_order(pages: pl.DataFrame) -> Iterator[dict[str, Any]]:
    columns = ["page_id", "feed", "subject", "request", "received_at", "connection_id", "sequence"]
    ordered = pages.select(*columns, "http_status", "body").unique(
        ["connection_id", "sequence"], keep="first"
    )
    return ordered.sort("connection_id", "sequence").iter_rows(named=True)


class _Reading:
    """Rows of pages, connection by connection and in order, read one after the other."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._connection_id = ""
        self._reread: Reread | None = None

    def page(self, row: Mapping[str, Any]) -> Page:
        """What the page says; raises ParseError where it cannot be read."""
        where = f"{row['feed']} {row['subject']}, page {row['page_id']}"
        try:
            stream = self._streams[row["feed"].removeprefix("stream_")]
            request = orjson.loads(row["request"])
            frame = _frame(row, request)
            topics = {key: Topic(*fields) for key, fields in request.get("topics", {}).items()}
            reread = self._reread_of(stream, row["connection_id"])
            said = reread.read(frame, request) if reread else _said(stream, frame, topics)
            said = _checked(said, topics)
        except UNREADABLE as error:
            raise ParseError(f"{where}: {type(error).__name__}: {error}"[:500]) from error
        return Page(
            page_id=row["page_id"],
            stream=stream,
            subject=row["subject"],
            connection_id=row["connection_id"],
            number=frame.number,
            kind=frame.kind,
            received_us=moment_us(frame.received_at),
            topics=topics,
            rests_on=request.get("rests_on", {}),
            starts_on=request.get("starts_on", {}),
            said=said,
        )

    def _reread_of(self, stream: VenueStream, connection_id: str) -> Reread | None:
        if connection_id != self._connection_id:
            self._connection_id = connection_id
            self._reread = stream.reread() if stream.reread else None
        return self._reread


def _frame(row: Mapping[str, Any], request: Mapping[str, Any]) -> Frame:
    text, status = row["body"].decode("utf-8", "replace"), row["http_status"]
    return Frame(
        row["sequence"],
        row["received_at"],
        request["kind"],
        text,
        request.get("about", ""),
        200 if status is None else status,
    )


def _said(stream: VenueStream, frame: Frame, topics: Mapping[str, Topic]) -> Sequence[Said]:
    if frame.kind == "recv":
        return stream.read(frame.text, topics)
    if frame.kind != "http" or stream.read_http is None or frame.status != 200:
        return ()
    try:
        return _checked(stream.read_http(frame.about, frame.text), topics)
    except UNREADABLE:  # the session asked again
        return ()


def _checked(said: Sequence[Said], topics: Mapping[str, Topic]) -> Sequence[Said]:
    for one in said:
        if isinstance(one, BookSaid | OrdersSaid):
            one.check()
        if isinstance(one, _ABOUT) and one.key not in topics:
            raise LookupError(f"it is about {one.key!r}, which was not subscribed")
    return said


_ABOUT = (BookSaid, OrdersSaid, Trade, Merged, Reached, Checksum, Dropped)


def _channel(said: Depth) -> Channel:
    return "book" if isinstance(said, BookSaid) else "orders"


def _at(at_us: int | None, page: Page) -> int:
    return page.received_us if at_us is None else at_us


def _of_frame(step: _Step) -> dict[str, Any]:
    page, said, verdict = step.page, step.said, step.verdict
    if verdict.rests_on is None:
        verdict = NO_BOOK
    return {
        "connection_id": page.connection_id,
        "frame": page.number,
        "known_at": page.received_us,
        "first_sequence": said.last if said.first is None else said.first,
        "last_sequence": said.last,
        "is_snapshot": said.is_snapshot or said.is_http,
        "amount_unit": step.topic.amount_unit,
        "is_valid": verdict.is_valid,
        "check": verdict.check,
    }


class _Columns:
    """Rows of a table as lists, one a column."""

    def __init__(self, table: Table) -> None:
        self._dtypes = {c.name: _given(c.dtype) for c in table.columns if c.derived is None}
        self._lists: dict[str, list[Any]] = {name: [] for name in self._dtypes}

    def add(self, page: Page, topic: Topic, **values: Any) -> None:
        """One row; times are in microseconds."""
        values["venue"], values["provider"] = page.stream.venue, page.stream.provider
        values["instrument_id"] = topic.instrument_id
        values["page_id"], values["ingested_at"] = page.page_id, page.received_us
        for name, values_so_far in self._lists.items():
            values_so_far.append(values[name])

    def frame(self) -> pl.LazyFrame:
        """The rows; numbers that the venue sent are its own text."""
        return (
            pl.DataFrame(
                {
                    name: pl.Series(name, self._lists[name], dtype=pl.Int64 if dtype == UTC_US else dtype)
                    for name, dtype in self._dtypes.items()
                }
            )
            .lazy()
            .with_columns(
                pl.from_epoch(name, time_unit="us").dt.replace_time_zone("UTC")
                for name, dtype in self._dtypes.items()
                if dtype == UTC_US
            )
        )


def _given(dtype: pl.DataType) -> pl.DataType:
    if dtype == pl.List(pl.Float64):
        return pl.List(pl.String)
    return pl.String() if dtype == pl.Float64() else dtype
