"""The providers' limits on a real Prefect server."""

import pytest

from sources.quota import Quota
from tasks.limits import PrefectLimits, has_prefect_server

BARS = Quota(provider="ccxt", host="bitfinex", min_interval_s=4.0)


@pytest.fixture(scope="module")
def prefect():
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120), get_client(sync_client=True) as client:
        yield client


@pytest.mark.slow
def test_a_limit_is_made_once_and_kept_as_somebody_set_it(prefect):
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    assert has_prefect_server()
    PrefectLimits()(BARS, 2.7)
    made = prefect.read_global_concurrency_limit_by_name("mnemo-ccxt-bitfinex")
    assert (made.limit, round(made.slot_decay_per_second, 2)) == (100, 2.38)

    prefect.update_global_concurrency_limit(made.name, GlobalConcurrencyLimitUpdate(limit=500))
    PrefectLimits()(BARS, 1)
    assert prefect.read_global_concurrency_limit_by_name(made.name).limit == 500


def test_a_host_without_limits_is_not_waited_for():
    PrefectLimits()(Quota(provider="x", host="y"), 1)
