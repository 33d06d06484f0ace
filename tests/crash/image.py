"""What silver, gold and quarantine must hold: computed from all of bronze at once, without promotions."""

from collections import Counter

import boto3
import orjson
import polars as pl
from deliveries import Unreadable, feeds

from lakehouse.clean import new_rows
from lakehouse.conform import conform
from lakehouse.gold import candles, trade_outliers
from lakehouse.ops import QUARANTINE, VERDICTS
from lakehouse.promotion import parse_what_can_be
from lakehouse.publish import UNREADABLE
from lakehouse.store import Store
from lakehouse.verdict import REASONS


def differences(store: Store, seed: int) -> list[str]:
    """Where the lake differs from its image; empty where it is exact."""
    images, held = {}, set()
    for feed in feeds(seed):
        rows, unreadable = parse_what_can_be(feed.parse, _scan(store, feed.bronze).collect(), Unreadable)
        images[feed.table.name], bad = _published(feed.table, rows)
        held |= {(feed.table.name, (UNREADABLE,), str(page_id)) for page_id, _ in unreadable}
        held |= _held(feed.table, bad)
    none_flagged = trade_outliers.TABLE.schema.to_frame()
    inputs = {**images, trade_outliers.TABLE.name: none_flagged}
    gold = candles.build({name: rows.lazy() for name, rows in inputs.items()})
    images[candles.TABLE.name], bad = _published(candles.TABLE, gold)
    found = [_compare(table, images[table.name], _scan(store, table).collect()) for table in _promoted()]
    found.append(_compare_held(held | _held(candles.TABLE, bad), _scan(store, QUARANTINE).collect()))
    found.append(_batches_judged_twice(_scan(store, VERDICTS).collect()))
    return [text for text in found if text]


def leftovers(store: Store) -> tuple[int, list[str]]:
    """How many files a full vacuum takes away, and what is there after it that no table knows."""
    removed, unknown = 0, []
    for table in (*(feed.bronze for feed in feeds(0)), *_promoted(), QUARANTINE, VERDICTS):
        delta = store.open(table).delta
        vacuumed = delta.vacuum(retention_hours=0, enforce_retention_duration=False, full=True, dry_run=False)
        removed += len(vacuumed)
        delta.update_incremental()
        known = {uri.removeprefix("s3://") for uri in delta.file_uris()}
        unknown += [key for key in _keys(store, table) if key not in known and not _is_log(key)]
    return removed, unknown + _uploads(store)


def sizes(store: Store) -> dict[str, int]:
    """Rows of each table."""
    tables = (*(feed.bronze for feed in feeds(0)), *_promoted(), QUARANTINE, VERDICTS)
    return {table.name: _scan(store, table).select(pl.len()).collect().item() for table in tables}


def _promoted():
    return (*(feed.table for feed in feeds(0)), candles.TABLE)


def _scan(store, table) -> pl.LazyFrame:
    stored = store.find(table)
    return stored.scan() if stored else table.schema.to_frame(eager=False)


def _published(table, rows: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    batch = conform(table, rows).collect()
    fresh = new_rows(table, batch, table.schema.to_frame())
    is_good = pl.col(REASONS).list.len() == 0
    return fresh.filter(is_good).select(table.schema.names()), fresh.filter(~is_good)


def _compare(table, image: pl.DataFrame, stored: pl.DataFrame) -> str:
    missing = image.join(stored, on=table.schema.names(), how="anti", nulls_equal=True).height
    extra = stored.join(image, on=table.schema.names(), how="anti", nulls_equal=True).height
    if missing or extra or image.height != stored.height:
        return f"{table.name}: {image.height} rows expected, {stored.height} stored, {missing} missing, {extra} extra"
    return ""


def _held(table, bad: pl.DataFrame) -> set[tuple]:
    """What is wrong, once: told again by another page it is the same defect."""
    return {(table.name, tuple(row[REASONS]), _text(table, row)) for row in bad.iter_rows(named=True)}


def _text(table, row) -> str:
    said = {name: row[name] for name in (*table.identity, *table.contents)}
    return orjson.dumps(said, option=orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS).decode()


def _compare_held(expected: set[tuple], stored: pl.DataFrame) -> str:
    contracts = {table.name: table for table in _promoted()}
    found = Counter(
        (
            row["table"],
            tuple(row["reasons"]),
            _text(contracts[row["table"]], orjson.loads(row["row"])) if row["row"] else str(row["page_id"]),
        )
        for row in stored.iter_rows(named=True)
    )
    lost, extra = sorted(expected - set(found)), sorted(set(found) - expected)
    twice = [one for one, count in found.items() if count > 1]
    if not (lost or extra or twice):
        return ""
    return (
        f"quarantine: {len(lost)} lost, {len(extra)} extra, {len(twice)} twice: {[*lost, *extra, *twice][:2]}"
    )


def _batches_judged_twice(verdicts: pl.DataFrame) -> str:
    twice = verdicts.filter(verdicts["batch_id"].is_duplicated())
    return f"verdicts: {twice.height} rows tell of a batch that has another" if twice.height else ""


def _client(store: Store):
    settings = store.settings
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        region_name=settings.s3_region,
    )


def _bucket_and_prefix(store: Store, uri: str) -> tuple[str, str]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix


def _keys(store: Store, table) -> list[str]:
    bucket, prefix = _bucket_and_prefix(store, store.uri(table.name))
    pages = _client(store).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    return [f"{bucket}/{entry['Key']}" for page in pages for entry in page.get("Contents", ())]


def _is_log(key: str) -> bool:
    name = key.rpartition("/_delta_log/")[2]
    return (
        name == "_last_checkpoint"
        or name.endswith(".checkpoint.parquet")
        or name.removesuffix(".json").isdigit()
    )


def _uploads(store: Store) -> list[str]:
    """Uploads in parts that nobody ended."""
    bucket, prefix = _bucket_and_prefix(store, store.root)
    answer = _client(store).list_multipart_uploads(Bucket=bucket, Prefix=prefix)
    return [f"upload {upload['Key']}" for upload in answer.get("Uploads", ())]
