"""Whatever a provider changes in its answers, parsing gives rows of the right columns or a ParseError."""

import csv
import io
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lakehouse.bronze import Page, pages_frame
from lakehouse.settings import Settings
from sources import registry
from sources.client import Client
from sources.errors import ParseError
from sources.feed import Feed
from sources.twin.server import running_twin
from sources.watchlist import read_watchlist

RECORDINGS = Path(__file__).parents[2] / "recordings"
WATCHLIST = Settings(_env_file=None, watchlist=RECORDINGS / "watchlist.yaml")
ORDERS = read_watchlist(WATCHLIST, now=datetime.now(UTC))
FEEDS = [feed for feed in registry.feeds().values() if feed.name in {order.feed for order in ORDERS}]
"""Those of the demo; the others are mutated where their recordings are: beside their parsers."""
MUTATIONS = 30
MOST_SUBJECTS = 7
ODD: tuple[Any, ...] = (None, "", "NaN", "odd", 10**30, -1, 1.5, True, [], ["1"], [[]], {}, {"a": 1})


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running_twin(RECORDINGS) as url, Client(Settings(_env_file=None, twin_url=url)) as client:
        yield client


@pytest.fixture
def recorded(client: Client, feed: Feed) -> list[Page]:
    """Pages of the demo: one subject of each venue."""
    orders = [order for order in ORDERS if order.feed == feed.name]
    one_each = {order.subject.partition(":")[0]: order for order in orders}
    chosen = list(one_each.values())[:MOST_SUBJECTS]
    return [page for order in chosen for page in feed.fetch(client, order.subject, order.window)]


def paths(said: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a JSON document are."""
    yield path
    inside = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    for name, value in inside:
        yield from paths(value, (*path, name))


def mutate_json(said: Any, rng: random.Random) -> Any:
    """One value replaced or taken away, at any depth with the same chance."""
    places = [path for path in paths(said) if path]
    depth = rng.choice(sorted({len(path) for path in places}))
    *above, last = rng.choice([path for path in places if len(path) == depth])
    holder = said
    for name in above:
        holder = holder[name]
    if rng.random() < 0.25:
        del holder[last]
    else:
        holder[last] = rng.choice(ODD)
    return said


def mutate_csv(text: str, rng: random.Random) -> str:
    """One field replaced or taken away."""
    rows = list(csv.reader(io.StringIO(text)))
    row = rng.choice([rows[0], rng.choice(rows)])
    at = rng.randrange(len(row))
    row[at : at + 1] = [] if rng.random() < 0.25 else [str(rng.choice(ODD))]
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def mutated(body: bytes, rng: random.Random) -> bytes:
    """The body with one thing wrong."""
    if rng.random() < 0.1:
        return body[: rng.randrange(len(body))]
    try:
        return json.dumps(mutate_json(json.loads(body), rng)).encode()
    except json.JSONDecodeError:
        return mutate_csv(body.decode(), rng).encode()


def judged(feed: Feed, page: Page) -> set[str]:
    """The columns that parsing gives; none where it refuses the page."""
    try:
        rows = feed.parse(pages_frame([page], run_id="r", code_version="v")).collect()
    except ParseError as error:
        return set() if str(page.page_id) in str(error) else {str(error)}
    return set(rows.columns)


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_a_changed_answer_gives_rows_that_can_be_judged_or_is_refused_by_name(feed, recorded):
    rng = random.Random(feed.name)
    columns = {column.name for column in feed.table.columns if column.derived is None}
    assert recorded
    for _ in range(MUTATIONS):
        page = rng.choice(recorded)
        assert judged(feed, replace(page, body=mutated(page.body, rng))) in (columns, set())
