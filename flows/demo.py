"""The daily run on recorded data: the offline twin stands in for every provider."""

from __future__ import annotations

from prefect import flow

from flows.daily import DailyReport, daily
from lakehouse.errors import SettingsError
from tasks import session


@flow(name="demo", flow_run_name="demo")
def demo() -> DailyReport:
    """Run `daily` against the twin; needs `MNEMO_OFFLINE=1`, so that no provider is ever asked by mistake."""
    if not session.settings().offline:
        raise SettingsError("the demo runs offline only: set MNEMO_OFFLINE=1, as `mnemo demo` does")
    return daily()
