"""`ops.quota` in a real lake: what one machine has used of a day, another one sees."""

from datetime import UTC, datetime

import pytest

from lakehouse import Lake
from sources.errors import QuotaExhausted
from sources.quota import Limit, Quota, a_day
from sources.quota_ledger import QuotaLedger
from sources.quota_table import QuotaTable

FREE_KEY = Quota(provider="alphavantage", host="www.alphavantage.co", limits=a_day(3), key_id="ab12cd34")
PACED = Quota(provider="fred", host="api.stlouisfed.org", limits=(Limit(units=120, window_s=60),))
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def machine(store, tmp_path):
    """A ledger in a folder of its own, as another machine has it."""

    def of(name: str, at: datetime = NOON) -> QuotaLedger:
        share = QuotaTable(lambda: store)
        return QuotaLedger(tmp_path / name, clock=at.timestamp, sleep=lambda _: None, share=share)

    return of


def test_a_budget_is_shared_by_all_machines_of_a_lake(machine):
    here, there = machine("here"), machine("there")
    here.take(FREE_KEY)
    there.take(FREE_KEY)
    assert (here.left(FREE_KEY), there.left(FREE_KEY)) == (1, 1)
    here.take(FREE_KEY)
    with pytest.raises(QuotaExhausted, match="renewed at 2024-05-02T00:00:00Z"):
        there.take(FREE_KEY)
    assert machine("there", datetime(2024, 5, 2, tzinfo=UTC)).left(FREE_KEY) == 3


def test_usage_can_be_read_like_any_other_table(machine, settings):
    ledger = machine("here")
    ledger.take(PACED)
    ledger.tell()
    (row,) = Lake.open(settings).scan("ops.quota").collect().to_dicts()
    assert (row["provider"], row["allowed"], row["used"], row["window_start"]) == ("fred", 120, 1.0, NOON)


def test_keys_and_hosts_do_not_mix(machine):
    machine("here").take(FREE_KEY)
    other_key = Quota(provider=FREE_KEY.provider, host=FREE_KEY.host, limits=a_day(3), key_id="00000000")
    assert machine("there").left(other_key) == 3
