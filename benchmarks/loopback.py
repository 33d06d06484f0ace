"""What a run needs around it, on loopback: a provider that answers at once, an S3 store, a Prefect server.

Each is a context manager that names what it gives, and is gone at its end, after an error or SIGTERM as well.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

import psutil  # type: ignore[import-untyped]

from benchmarks.lake import passing_lake
from deployments.register import prefect_settings
from lakehouse.settings import Settings

PAGE_ROWS = 10_000
_STARTS_WITHIN_S = 120
_PROJECT = Path(__file__).parents[1]


@contextmanager
def lake() -> Iterator[dict[str, str]]:
    """What names a home of its own with an embedded S3 server, and the provider; `MNEMO_LAKE` is to be added."""
    signal.signal(signal.SIGTERM, _end_as_errors_do)
    with passing_lake("benchmark") as settings, provider() as url:
        yield {
            "MNEMO_HOME": str(settings.home),
            "MNEMO_S3_ENDPOINT": settings.s3_endpoint,
            "MNEMO_S3_ACCESS_KEY": settings.s3_access_key,
            "MNEMO_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
            "MNEMO_COINMETRICS_URL": url,
        }


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings that such an environment makes."""
    given = {name.removeprefix("MNEMO_").lower(): value for name, value in environment.items()}
    url = given.pop("coinmetrics_url")
    return Settings.model_validate({**given, "providers": {"MNEMO_COINMETRICS_URL": url}})


@contextmanager
def provider() -> Iterator[str]:
    """The address of a made-up CoinMetrics."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@dataclass(frozen=True)
class PrefectServer:
    """A Prefect server on SQLite, with the settings that this project ships."""

    home: Path
    url: str
    process: psutil.Process

    @property
    def environment(self) -> dict[str, str]:
        """What names it to a flow."""
        return {**prefect_settings(), "PREFECT_HOME": str(self.home), "PREFECT_API_URL": f"{self.url}/api"}

    @property
    def cpu_s(self) -> float:
        """CPU seconds since its start."""
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)

    @property
    def database_bytes(self) -> int:
        """The size of its database, with what is still in the write-ahead log."""
        with closing(sqlite3.connect(f"file:{self.home / 'prefect.db'}?mode=ro", uri=True)) as database:
            sizes = [database.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "page_size")]
        return int(sizes[0] * sizes[1])


@contextmanager
def prefect_server() -> Iterator[PrefectServer]:
    """A server of its own, ready to answer."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable,
            "-m",
            "prefect",
            "server",
            "start",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        environment = {**os.environ, **prefect_settings(), "PREFECT_HOME": folder}
        with subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log) as process:
            try:
                _wait_for(f"{url}/api/health")
                yield PrefectServer(Path(folder), url, psutil.Process(process.pid))
            finally:
                _end(process)


def in_process(module: str, what: str, environment: Mapping[str, str], told: Any = None) -> Any:
    """What `python -m <module> <what>` prints as JSON in its last line, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", module, what],
        input=json.dumps(told),
        env={**os.environ, **environment},
        cwd=_PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{module} {what}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _end_as_errors_do(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit("ended by SIGTERM")


def _free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"nothing answers at {url} within {_STARTS_WITHIN_S} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()


class _Answers(BaseHTTPRequestHandler):
    """CoinMetrics' time series of any asset, as documented: prices on the grid that was asked for."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets: the second would wait for an answer

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        step = timedelta(minutes=1) if asked["frequency"] == "1m" else timedelta(days=1)
        first = _moment(asked.get("next_page_token") or asked["start_time"])
        end = _moment(asked["end_time"])
        count = min(PAGE_ROWS, -(-(end - first) // step))
        told = [
            {
                "asset": asked["assets"],
                "time": (first + n * step).strftime("%Y-%m-%dT%H:%M:%S.000000000Z"),
                "PriceUSD": f"{100 + n % 97}.5",
            }
            for n in range(count)
        ]
        body: dict[str, Any] = {"data": told}
        if (rest := first + count * step) < end:
            more = f"{self.path.partition('&next_page_token')[0]}&next_page_token={rest:%Y-%m-%dT%H:%M:%S}"
            body |= {"next_page_token": f"{rest:%Y-%m-%dT%H:%M:%S}", "next_page_url": more}
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_said: object) -> None:
        return


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
