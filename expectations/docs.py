"""Where verdict pages are kept, and the indexes over them. Knows no validation library: reading pages is cheap.

Under `docs/` each table has a folder with a page and a sidecar, its summary, for every batch. A gate writes its own two
and touches nothing else. Whoever builds the indexes keeps in `docs/<table>/index.json` what the sidecars said, so that
each is read once; what is to be seen follows from the pages that are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from lakehouse.errors import unknown
from lakehouse.files import Entry, Files, LocalFiles
from lakehouse.window import iso, parse_moment

if TYPE_CHECKING:
    from jinja2 import Environment

    from lakehouse.settings import Settings

ROOT = "docs/"
INDEX_KEY = f"{ROOT}index.html"

SHOWN = 200
"""How many verdicts of a table its own page names, the newest first."""
KEPT = 20
"""How many pages of a table are kept whatever their age, the newest."""

_INDEX = "index"
_LEVELS = ("blocked", "warning", "passed")
_AT_ONCE = 8

Summary = Mapping[str, Any]
"""What a sidecar says: table, batch_id, judged_at, level, rows, failed_rows, reasons, remarks, failed (severity ->
number of failed expectations; older sidecars have none)."""


def page_key(table: str, batch_id: str) -> str:
    """Where the page of a batch is."""
    return f"{ROOT}{table}/{batch_id}.html"


def sidecar_key(table: str, batch_id: str) -> str:
    """Where the page's summary is (JSON)."""
    return f"{ROOT}{table}/{batch_id}.json"


def address_of(settings: Settings, key: str) -> str:
    """Where a page is for people: under MNEMO_DOCS_URL, else its place in the lake."""
    if settings.docs_url:
        return f"{settings.docs_url.rstrip('/')}/{key.removeprefix(ROOT)}"
    return f"{settings.lake.rstrip('/')}/{key}"


def build_index(files: Files, *, now: datetime, shown: int = SHOWN) -> str:
    """Write the page of every table and the index over them; returns the index's key.

    Pages judged meanwhile are in the next one. Two at once do no harm: the later one is seen.
    """
    shelves = [_catch_up(files, table) for table in _tables(files)]
    for shelf in shelves:
        text = _render("table_page.j2", built_at=now, **_table_page(shelf, shown))
        files.put(page_key(shelf.table, _INDEX), text.encode())
    files.put(INDEX_KEY, _render("index_page.j2", built_at=now, **_index_page(shelves)).encode())
    return INDEX_KEY


def prune(files: Files, *, before: datetime, held: Collection[str] = (), kept: int = KEPT) -> int:
    """Delete what was judged before a moment; returns how many pages.

    The newest pages of each table stay, and those of batches that are `held` (in quarantine).
    """
    return sum(_prune(files, _catch_up(files, table), before, held, kept) for table in _tables(files))


def bring(files: Files, home: Path, *, now: datetime) -> Path:
    """Copy to `home` what is new there, remove what is gone, build the indexes; the path of the index.

    Nothing is written to `files`: credentials that may only read are enough.
    """
    there = {entry.key: entry for entry in files.entries(ROOT) if _is_of_a_batch(entry.key)}
    local = LocalFiles(home)
    here = {entry.key: entry for entry in local.entries(ROOT) if _is_of_a_batch(entry.key)}
    local.delete([key for key in here if key not in there])
    _copy(files, local, [key for key, entry in there.items() if _is_newer(entry, here.get(key))])
    return (home / build_index(local, now=now)).resolve()


def bring_page(files: Files, home: Path, batch: str) -> Path:
    """Copy the page of one batch, named by the beginning of its id, to `home`; its path."""
    pages = [key for key in files.keys(ROOT) if _is_of_a_batch(key) and key.endswith(".html")]
    found = [key for key in pages if Path(key).stem.startswith(batch)]
    if len(found) != 1:
        raise unknown("batch with a page", batch, [Path(key).stem for key in found or pages])
    _copy(files, LocalFiles(home), found)
    return (home / found[0]).resolve()


@dataclass(frozen=True, kw_only=True)
class _Shelf:
    """The pages of one table: what their sidecars say, the newest first, and all that lies there."""

    table: str
    summaries: Sequence[Summary]
    entries: Sequence[Entry]


def _tables(files: Files) -> list[str]:
    return [name for name in files.folders(ROOT) if "." in name]


def _catch_up(files: Files, table: str) -> _Shelf:
    """Read the sidecars that were not read before, and note what they say."""
    entries = [entry for entry in files.entries(f"{ROOT}{table}/") if _is_of_a_batch(entry.key)]
    known = _noted(files, table)
    tags = {Path(one.key).stem: one.tag for one in entries if one.key.endswith(".json")}
    new = [batch for batch, tag in tags.items() if known.get(batch, {}).get("tag") != tag]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        read = pool.map(lambda batch: orjson.loads(files.get(sidecar_key(table, batch))), new)
        found = {batch: {**said, "tag": tags[batch]} for batch, said in zip(new, read, strict=True)}
    now_known = {batch: known[batch] for batch in tags if batch not in found} | found
    if now_known != known:
        files.put(sidecar_key(table, _INDEX), orjson.dumps(now_known))
    return _Shelf(table=table, summaries=sorted(now_known.values(), key=_age), entries=entries)


def _noted(files: Files, table: str) -> dict[str, dict[str, Any]]:
    try:
        return dict(orjson.loads(files.get(sidecar_key(table, _INDEX))))
    except FileNotFoundError:
        return {}


def _age(summary: Summary) -> float:
    return -parse_moment(summary["judged_at"]).timestamp()


def _is_of_a_batch(key: str) -> bool:
    """Whether a key is `docs/<table>/<batch_id>.html` or `.json`."""
    path = Path(key.removeprefix(ROOT))
    return len(path.parts) == 2 and path.suffix in (".html", ".json") and path.stem != _INDEX


def _prune(files: Files, shelf: _Shelf, before: datetime, held: Collection[str], kept: int) -> int:
    gone = [
        str(summary["batch_id"])
        for summary in shelf.summaries[kept:]
        if parse_moment(summary["judged_at"]) < before and summary["batch_id"] not in held
    ]
    whole = {str(summary["batch_id"]) for summary in shelf.summaries}
    # A gate that was killed between the two leaves a page that no sidecar tells of.
    orphans = [
        one.key for one in shelf.entries if Path(one.key).stem not in whole and one.modified_at < before
    ]
    pages = [page_key(shelf.table, batch) for batch in gone] + orphans
    # Sidecars last: killed in between, the next one knows what is left to delete.
    for keys in (pages, [sidecar_key(shelf.table, batch) for batch in gone]):
        if keys:
            files.delete(keys)
    return len(pages)


def _is_newer(there: Entry, here: Entry | None) -> bool:
    return here is None or there.size_bytes != here.size_bytes or there.modified_at > here.modified_at


def _copy(files: Files, to: Files, keys: Sequence[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for key, data in zip(keys, pool.map(files.get, keys), strict=True):
            to.put(key, data)


def _table_page(shelf: _Shelf, shown: int) -> dict[str, Any]:
    return {
        "table": shelf.table,
        "summaries": shelf.summaries[:shown],
        "older": max(0, len(shelf.summaries) - shown),
        "counts": _counts(shelf.summaries),
    }


def _index_page(shelves: Sequence[_Shelf]) -> dict[str, Any]:
    """A line for each table; those whose newest verdict is the worst come first."""
    filled = [shelf for shelf in shelves if shelf.summaries]
    filled.sort(key=lambda shelf: (_LEVELS.index(shelf.summaries[0]["level"]), shelf.table))
    lines = [
        {"table": shelf.table, "newest": shelf.summaries[0], "counts": _counts(shelf.summaries)}
        for shelf in filled
    ]
    return {"lines": lines, "counts": _counts([shelf.summaries[0] for shelf in filled])}


def _counts(summaries: Sequence[Summary]) -> dict[str, int]:
    found = Counter(str(summary["level"]) for summary in summaries)
    return {level: found[level] for level in _LEVELS}


def _render(template: str, **said: Any) -> str:
    return _templates().get_template(template).render(**said) + "\n"


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # not needed to name a page

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["moment"] = lambda said: _moment(parse_moment(said) if isinstance(said, str) else said)
    return made


def _moment(moment: datetime) -> str:
    """To the second: what is finer only takes room."""
    return iso(moment.replace(microsecond=0)).replace("T", " ").removesuffix("Z")
