"""`mnemo up`: the whole platform on one machine, in the foreground: S3, Prefect server, and the scheduled flows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from rich.console import Console

from deployments.demo import set_up_prefect
from lakehouse import Lake
from lakehouse.errors import MnemoError

_START_S = 120.0


def up(*, port: int) -> None:
    """Start everything and serve the flows until Ctrl-C; what was started is stopped then."""
    set_up_prefect()
    lake = Lake.open()
    console = Console()
    console.print(f"lake     {lake.store.root} at {lake.settings.s3_endpoint or 'this folder'}")
    with _prefect_server(port) as url:
        console.print(f"Prefect  {url}")
        os.environ["PREFECT_API_URL"] = f"{url}/api"
        from prefect import serve
        from prefect.deployments.runner import RunnerDeployment

        from flows.daily import daily
        from flows.promote import promote

        console.print("flows    daily at 06:00 UTC, promote every 15 minutes; Ctrl-C stops everything")
        every_day = cast("RunnerDeployment", daily.to_deployment("daily", cron="0 6 * * *"))
        sweep = cast("RunnerDeployment", promote.to_deployment("promote", interval=900))
        serve(every_day, sweep)


@contextmanager
def _prefect_server(port: int) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:  # noqa: S603
        try:
            _wait_healthy(url, server)
            yield url
        finally:
            server.terminate()


def _wait_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/api/health", timeout=2).close()  # noqa: S310 - loopback http
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise MnemoError(
        f"the Prefect server did not start at {url}; is the port taken? (--port chooses another)"
    )
