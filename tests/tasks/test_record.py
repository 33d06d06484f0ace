"""What a run leaves for people: a link to each page that it wrote."""

import pytest

from lakehouse.publish import Promoted
from lakehouse.settings import Settings
from tasks.record import pages_table


def promoted(batch_id: str, docs_key: str) -> Promoted:
    return Promoted(
        table="silver.trades",
        inputs=("bronze.ccxt_trades",),
        batch_id=batch_id,
        level="warning",
        published_rows=1,
        quarantined_rows=0,
        docs_key=docs_key,
    )


@pytest.mark.parametrize(
    ("docs_url", "page"),
    [
        ("", "`s3://lake/mnemo/docs/silver.trades/1f3a.html`"),
        ("https://docs.example.org", "[page](https://docs.example.org/silver.trades/1f3a.html)"),
    ],
)
def test_each_page_of_a_run_is_linked_where_people_can_read_it(docs_url, page):
    done = [promoted("1f3a", "docs/silver.trades/1f3a.html"), promoted("2b4c", "")]
    assert pages_table(done, Settings(docs_url=docs_url)).splitlines()[2:] == [
        f"| silver.trades | warning | {page} | `mnemo docs 1f3a` |"
    ]


def test_a_run_that_judged_nothing_says_so():
    assert pages_table([promoted("2b4c", "")], Settings()) == "Nothing was judged."
