"""The local platform: prefect.yaml on a real server, a scheduled run that a real worker picks up, no process left."""

import asyncio
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
import yaml
from prefect import Task
from prefect.server.schemas.schedules import CronSchedule

import tasks
from deployments.automations import PREFIX
from deployments.register import declared
from flows.promote import dependents
from lakehouse import Lake
from lakehouse.catalog import models
from lakehouse.embedded_s3 import release
from lakehouse.settings import Settings

SHORTEST = timedelta(minutes=5)
RECENT = timedelta(seconds=6)  # Prefect's scheduler for what was just deployed looks back so far
KEY = "planted-key-of-fred"
RECORDED = ("--start", "2017-04-07", "--end", "2020-01-01")
SAVE_BLOCK = """
from prefect.blocks.notifications import CustomWebhookNotificationBlock
told = {{"subject": "{{{{subject}}}}", "body": "{{{{body}}}}"}}
CustomWebhookNotificationBlock(name="sink", url="{url}", json_data=told).save("mnemo-alerts", overwrite=True)
"""
TRIGGER = {"type": "event", "posture": "Reactive", "expect": ["never"], "threshold": 1, "within": 0}


@pytest.mark.parametrize("deployment", declared(), ids=lambda one: one["name"])
def test_each_deployment_names_a_flow_by_module_and_says_where_it_runs(deployment):
    module, _, name = deployment["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties)
    assert flow.timeout_seconds or deployment["name"] == "stream"  # which ends after `seconds`
    assert deployment["work_pool"]["name"] == "mnemo"
    assert "mnemo" in deployment["tags"]
    assert deployment["concurrency_limit"]["collision_strategy"] in {"CANCEL_NEW", "ENQUEUE"}


def test_nothing_is_scheduled_without_a_zone_or_more_often_than_every_five_minutes():
    schedules = [one for deployment in declared() for one in deployment.get("schedules", [])]

    assert schedules
    assert all(one["timezone"] for one in schedules)
    assert all(pause(one) >= SHORTEST for one in schedules)


def pause(schedule) -> timedelta:
    """The shortest time between two of the next runs."""
    if "interval" in schedule:
        return timedelta(seconds=schedule["interval"])
    moments = asyncio.run(CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]).get_dates(50))
    return min(later - earlier for earlier, later in pairwise(moments))


def test_what_depends_on_a_table_is_read_from_the_models():
    assert dependents(["silver.prediction_markets"]) == {"gold.prediction_panel", "gold.features"}
    assert dependents(["gold.features"]) == set()
    assert {"gold.candles", "gold.volatility", "gold.features"} <= dependents(["silver.candles"])


@pytest.mark.parametrize("module", [found.name for found in pkgutil.iter_modules(tasks.__path__)])
def test_no_task_waits_for_the_server_before_it_starts(module):
    """A tag has Prefect ask for a slot before each task run; where the server is away just then, the run fails."""
    found = vars(importlib.import_module(f"tasks.{module}")).values()

    assert [task.name for task in found if isinstance(task, Task) and task.tags] == []


@pytest.fixture(scope="module")
def platform(make_platform, tmp_path_factory):
    watchlist = tmp_path_factory.mktemp("watchlist") / "watchlist.yaml"
    wanted = {"feed": "alphavantage_daily", "subject": "IBM", "start": "2025-12-22", "end": "2026-05-16"}
    watchlist.write_text(yaml.safe_dump([wanted]))
    platform = make_platform(MNEMO_WATCHLIST=str(watchlist), MNEMO_FRED_API_KEY=KEY)
    platform.up()
    return platform


@dataclass(frozen=True)
class Sink:
    """A place that alerts are sent to."""

    url: str
    received: list[dict]


@pytest.fixture
def sink():
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Sink(f"http://127.0.0.1:{server.server_port}/", received)
        server.shutdown()


def register(platform) -> None:
    """Register once more."""
    python(platform, "-m", "deployments.register")


def python(platform, *arguments: str) -> None:
    """Run something that talks to the platform's Prefect server."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={
            **platform.environment,
            "PREFECT_API_URL": f"http://127.0.0.1:{platform.port}/api",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        },
        cwd=platform.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def switch_automations(platform, *, on: bool) -> None:
    for automation in platform.api("/automations/filter", {}):
        platform.api(f"/automations/{automation['id']}", {"enabled": on}, method="PATCH")


def lasting(platform) -> dict[str, int]:
    """The processes of the platform but its runs."""
    return {name: pid for name, pid in platform.running().items() if not name.startswith("flow")}


def settled(platform, name) -> dict | None:
    """A deployment whose runs are scheduled, and which the server no longer looks at as new.

    While it does, a schedule that is moved can be taken back: Prefect reads the schedule, and writes its runs later.
    """
    deployment = platform.deployment(name)
    age = datetime.now(UTC) - datetime.fromisoformat(deployment["updated"])
    return deployment if age > 2 * RECENT and platform.runs("SCHEDULED", deployment=name) else None


def ids(platform) -> dict[str, str]:
    """Name and id of all that is registered."""
    paths = ("/deployments/filter", "/automations/filter", "/block_documents/filter")
    return {one["name"]: one["id"] for path in paths for one in platform.api(path, {})}


@pytest.mark.slow
class TestRunning:
    """In the order in which they stand: one platform is brought up, used, killed, and taken down."""

    def test_all_of_prefect_yaml_is_deployed_and_a_scheduled_run_completes(self, platform):
        names = {one["name"] for one in platform.api("/deployments/filter", {"limit": 200})}
        assert names == {one["name"] for one in declared()}

        deployment = platform.until(lambda: settled(platform, "daily"), 120, "the first schedule")
        (schedule,) = deployment["schedules"]
        soon = datetime.now(UTC) + timedelta(seconds=120)  # far more than one round of the scheduler
        moved = {"schedule": {"cron": f"{soon.minute} * * * *", "timezone": "UTC"}, "active": True}
        platform.api(f"/deployments/{deployment['id']}/schedules/{schedule['id']}", moved, method="PATCH")

        completed = platform.until(
            lambda: platform.runs("COMPLETED", deployment="daily"), 400, "a scheduled run"
        )
        assert completed[0]["auto_scheduled"]
        lake = Lake.open(Settings(home=platform.home))
        assert lake.scan("silver.bars").collect().height == 100
        assert lake.scan("gold.volatility").collect().height

    def test_published_silver_starts_the_promotion_of_the_gold_made_of_it(self, platform):
        platform.mnemo("ingest", "ccxt_ohlcv", *("--subject", "bitstamp:BTC/USD@1d"), *RECORDED)
        platform.start("promote", parameters={"tables": ["silver.candles"]})

        lake = Lake.open(Settings(home=platform.home))
        platform.until(lambda: lake.scan("gold.candles").collect().height, 400, "gold")

        started = platform.runs("COMPLETED", "RUNNING", deployment="promote")
        assert {"tables": list(models())} in [run["parameters"] for run in started]

    def test_a_second_up_changes_nothing(self, platform):
        before = lasting(platform)
        said = platform.up()

        assert lasting(platform) == before
        assert f"http://127.0.0.1:{platform.port}" in said

    def test_registering_again_makes_nothing_twice_and_takes_away_what_is_not_declared(self, platform):
        before = ids(platform)
        old = {
            "name": f"{PREFIX}of an earlier version",
            "trigger": TRIGGER,
            "actions": [{"type": "do-nothing"}],
        }
        platform.api("/automations/", old)
        daily = platform.deployment("daily")
        gone = {"name": "gone", "flow_id": daily["flow_id"], "tags": ["mnemo"]}
        platform.api("/deployments/", gone)
        watch = platform.deployment("watch")
        switch = f"/deployments/{watch['id']}/schedules/{watch['schedules'][0]['id']}"
        platform.api(switch, {"active": False}, method="PATCH")

        register(platform)

        assert ids(platform) == before
        assert not platform.deployment("watch")["schedules"][0]["active"]  # as somebody wanted it

    def test_keys_are_blocks_and_reach_runs_without_being_in_deployments_or_the_pool(self, platform):
        pool = platform.api("/work_pools/mnemo", method="GET")
        variables = pool["base_job_template"]["variables"]["properties"]["env"]["default"]

        assert variables == {"MNEMO_FRED_API_KEY": "{{ prefect.blocks.secret.mnemo-fred-api-key }}"}
        for path in ("/work_pools/filter", "/deployments/filter", "/flow_runs/filter", "/automations/filter"):
            assert KEY not in json.dumps(platform.api(path, {}))
        assert KEY not in platform.logs()

    def test_runs_that_fail_are_told_to_the_block_for_alerts(self, platform, sink):
        python(platform, "-c", SAVE_BLOCK.format(url=sink.url))
        register(platform)

        platform.start("daily", parameters={"feeds": ["no_such_feed"]})

        (told,) = platform.until(lambda: sink.received, 300, "an alert")
        assert told["subject"] == "daily: Failed"
        assert "no_such_feed" in told["body"]

    def test_without_any_event_the_sweep_ends_lost_runs_and_starts_them_again(self, platform):
        switch_automations(platform, on=False)
        run_id = platform.start("daily", state="RUNNING")  # whose next runs are scheduled already
        task = {"flow_run_id": run_id, "task_key": "lost", "dynamic_key": "0", "state": {"type": "RUNNING"}}
        task_id = platform.api("/task_runs/", task)["id"]

        def is_done() -> bool:
            if platform.run(run_id)["state_type"] != "COMPLETED":
                python(platform, "-c", "from tasks.recover import recover_runs; recover_runs.fn()")
                return False
            return True

        platform.until(is_done, 600, "the lost run to be done")
        assert platform.run(run_id)["run_count"] == 2  # it was told to run, and then did
        assert platform.api(f"/task_runs/{task_id}", method="GET")["state_type"] == "CRASHED"
        register(platform)
        assert not any(one["enabled"] for one in platform.api("/automations/filter", {}))
        switch_automations(platform, on=True)

    @pytest.mark.parametrize("victim", ["server", "worker", "keeper"])
    def test_what_dies_is_there_again(self, platform, victim):
        before = lasting(platform)
        os.kill(before[victim], signal.SIGKILL)
        if victim == "keeper":
            platform.up()

        def is_back():
            now = lasting(platform)
            return now.keys() == before.keys() and now[victim] != before[victim]

        platform.until(is_back, 120, f"a new {victim}")
        assert {**lasting(platform), victim: 0} == {**before, victim: 0}

    def test_down_leaves_no_process_also_when_the_keeper_was_killed_and_up_goes_on(self, platform):
        run_id = platform.start("daily")
        platform.until(lambda: platform.run(run_id)["state_type"] == "RUNNING", 300, "a flow run")
        running = platform.running()
        for name in ("keeper", "worker"):
            os.kill(running[name], signal.SIGKILL)
        release(platform.home)  # these tests read from the store as well

        platform.mnemo("down")

        assert platform.running() == {}
        left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert [one for one in left.splitlines() if str(platform.home) in one] == []
        assert platform.mnemo("down").stdout.strip() == "nothing was running"
        platform.up()
        platform.until(lambda: platform.run(run_id)["state_type"] == "COMPLETED", 600, "the run to be done")
