"""schema_drift: fields that providers have added, dropped or retyped in their answers.

Of each feed the newest answers (of the last day) are compared with earlier ones to the same subject at the same
address. A field is new if no earlier answer has it; it is missing if every object of the earlier answers had it and no
new one has; it is retyped if it has a JSON type that it never had. So a field that comes and goes is no news, and
neither is a longer list, another key of a mapping, null, or an integer among numbers. In a list of lists each inner one
is a row: its places are fields.

Of a page some elements of each list are looked at, of a feed some subjects, so that the cost has a bound. What is no
JSON is CSV if its first line has commas: that is compared. Frames of streams are left out: the
kinds of messages are many, and what their parsers cannot read is in quarantine.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
import polars as pl

from expectations.monitors.monitor import Monitor, View, measured, newest_moment
from lakehouse.bronze import bronze_table
from lakehouse.store import StoredTable

RECENT = timedelta(days=1)
REFERENCE = timedelta(days=30)
LEAST_EARLIER = 3
"""Answers; with fewer nobody knows what is usual."""
MOST_SUBJECTS = 25
"""Of a feed: those that were heard of last."""
MOST_RECENT, MOST_EARLIER = 2, 8
"""Answers of a subject and address."""
MOST_ELEMENTS = 40
"""Of a list, from its beginning and its end."""
MOST_FIELDS = 60
"""An object with more keys is a mapping: its keys are data."""

_SHOWN = 5
_DATA = re.compile(r"[\d:T.\-/ ]*\d[\d:T.\-/ ]*Z?|0x[0-9a-fA-F]+|[0-9a-fA-F]{16,}")
"""Keys that are data: numbers, times, hashes."""
_JSON_TYPES: Mapping[type, str] = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
}

Path = tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    """What some bodies have in common: how often each path is there, and of which JSON types."""

    counts: Counter[Path] = field(default_factory=Counter)
    types: dict[Path, set[str]] = field(default_factory=dict)

    def add(self, path: Path, value: Any) -> None:
        """Count a value and all that is in it."""
        kind = _JSON_TYPES.get(type(value))
        self.counts[path] += 1
        if kind:
            self.types.setdefault(path, set()).add(kind)
        if isinstance(value, dict):
            is_mapping = len(value) > MOST_FIELDS
            for key in _some(list(value)) if is_mapping else value:
                self.add((*path, "*" if is_mapping or _DATA.fullmatch(key) else key), value[key])
        elif isinstance(value, list):
            is_row = path[-1:] == ("[]",) and len(value) <= MOST_FIELDS
            for number, one in enumerate(_some(value)):
                self.add((*path, f"[{number}]" if is_row else "[]"), one)


def shape_of(bodies: Iterable[bytes]) -> Shape:
    """The shape of JSON documents and of the headers of CSV files; others add nothing."""
    shape = Shape()
    for body in bodies:
        try:
            shape.add((), _read(body))
        except orjson.JSONDecodeError:
            continue  # what cannot be read is the parser's to say
    return shape


def differences(earlier: Shape, recent: Shape) -> list[str]:
    """What is new, missing and retyped in the later of two shapes, each in a few words."""
    new = [path for path in recent.counts if path not in earlier.counts and _could_have(earlier, path)]
    missing = [
        path
        for path, count in earlier.counts.items()
        if path not in recent.counts and _could_have(recent, path) and count == earlier.counts[path[:-1]]
    ]
    retyped = [
        f"{_text(path)} was {_listed(before)}, is {_listed(now)}"
        for path, now in recent.types.items()
        if (before := earlier.types.get(path)) and now - before
    ]
    return [
        *(f"{_text(path)} is new" for path in new),
        *(f"{_text(path)} is missing" for path in missing),
        *retyped,
    ]


def _could_have(shape: Shape, path: Path) -> bool:
    """Whether there were objects or rows that a field could have been in, and it is a field."""
    *parent, name = path or ("*",)
    if name in ("*", "[]") or (*parent, "*") in shape.counts:
        return False
    return bool(shape.types.get(tuple(parent), set()) & {"object", "array"})


def look(view: View) -> pl.DataFrame:
    """How many fields differ, of each feed and host with enough answers to compare."""
    store = view.lake.store
    rows: list[dict[str, object]] = []
    for name in store.files.folders("bronze/"):
        stored = store.find(bronze_table(name))
        if stored and (newest := newest_moment(stored)) and newest >= view.now - RECENT:
            rows += _of_feed(stored, _sample(stored, view))
    return measured(rows)


def _sample(stored: StoredTable, view: View) -> pl.DataFrame:
    """Pages of the subjects that were heard of last, a few of the last day and a few from before, of each request."""
    begin = view.now - RECENT
    since = begin - REFERENCE
    pages = stored.scan().filter(
        pl.col("received_date") >= since.date(),
        pl.col("received_at").is_between(since, view.now, closed="left"),
        pl.col("connection_id").is_null(),
        pl.col("http_status").is_null() | (pl.col("http_status") == 200),
    )
    is_recent = pl.col("received_at") >= begin
    heard = pages.filter(is_recent).group_by("subject").agg(pl.col("received_at").max())
    subjects = heard.sort("received_at", "subject", descending=True).head(MOST_SUBJECTS)
    place = pl.col("received_at").rank("ordinal", descending=True).over("subject", "address", "is_recent")
    chosen = (
        pages.join(subjects.select("subject"), on="subject", how="semi")
        .select("page_id", "subject", "received_at", address=_address(), is_recent=is_recent)
        .filter(place <= pl.when("is_recent").then(MOST_RECENT).otherwise(MOST_EARLIER))
        .filter(_is_comparable())
        .collect()
    )
    wanted = pages.filter(
        pl.col("received_date").is_in(chosen["received_at"].dt.date().unique().implode()),
        pl.col("page_id").is_in(chosen["page_id"].unique().implode()),
    )
    bodies = wanted.select("page_id", "received_at", "body").collect()
    return chosen.join(bodies, on=["page_id", "received_at"]).sort("subject", "address", "received_at")


def _is_comparable() -> pl.Expr:
    earlier = (~pl.col("is_recent")).sum().over("subject", "address")
    return (earlier >= LEAST_EARLIER) & pl.col("is_recent").any().over("subject", "address")


def _address() -> pl.Expr:
    url = pl.col("request").str.json_path_match("$.url").fill_null("")
    return url.str.replace(r"\?.*$", "")


def _of_feed(stored: StoredTable, pages: pl.DataFrame) -> Iterator[dict[str, object]]:
    """One row a host: a change of a provider shows in every subject at once."""
    by_host: dict[str, list[str]] = {}
    for (_, address), group in pages.group_by("subject", "address", maintain_order=True):
        earlier, recent = (group.filter(pl.col("is_recent") == which)["body"] for which in (False, True))
        found = by_host.setdefault(urlsplit(str(address)).netloc, [])
        found += differences(shape_of(earlier), shape_of(recent))
    for host, found in by_host.items():
        yield _row(stored.contract.name, host, list(dict.fromkeys(found)))


def _row(table: str, host: str, found: Sequence[str]) -> dict[str, object]:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    said = "; ".join(found[:_SHOWN]) + more
    return {
        "table": table,
        "subject": host,
        "measured": len(found),
        "limit": 0.0,
        "summary": f"answers of {host}: {said or 'as they were'}",
    }


def _some(values: Sequence[Any]) -> Sequence[Any]:
    half = MOST_ELEMENTS // 2
    return values if len(values) <= MOST_ELEMENTS else [*values[:half], *values[-half:]]


def _read(body: bytes) -> object:
    if body.lstrip()[:1] in (b"{", b"["):
        return orjson.loads(body)
    header = body.split(b"\n", 1)[0].decode("utf-8", "replace").strip("\ufeff\r ")
    return dict.fromkeys(header.split(","), "") if "," in header else None


def _text(path: Path) -> str:
    return ".".join(path)[:120]


def _listed(types: Collection[str]) -> str:
    return " or ".join(sorted(types))


MONITOR = Monitor(
    name="schema_drift",
    doc="Providers' answers of the last day have the fields of those before, each of the types it had.",
    unit="fields",
    severity="warning",
    look=look,
)
