"""The ledger of requests: spaced for all processes, counted by the day, told by headers, never silent."""

import json
import multiprocessing
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import structlog

from lakehouse.errors import SettingsError
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.client import Host
from sources.errors import QuotaExhausted, Transient
from sources.quota import Limit, Quota, a_day, key_id, read_limits
from sources.quota_headers import Stated, stated
from sources.quota_ledger import QuotaLedger, Usage

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
PACED = Quota(
    provider="coinmetrics", host="community-api.coinmetrics.io", limits=(Limit(units=10, window_s=6),)
)
FREE_KEY = Quota(
    provider="alphavantage",
    host="www.alphavantage.co",
    limits=a_day(25, "UTC", "America/New_York"),
    key_id="ab12cd34",
)


class Clock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at_s = at.timestamp()
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.at_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.at_s += seconds

    def go(self, **time_) -> None:
        self.at_s += timedelta(**time_).total_seconds()


class Board:
    """Where machines tell each other, in memory."""

    def __init__(self) -> None:
        self.told: list[Usage] = []

    def used_elsewhere(self, _quota: Quota, limit: Limit, window: Window, *, machine: str) -> float:
        alike = [
            one
            for one in self.told
            if (one.zone, one.window_start) == (limit.zone, window.start) and one.machine != machine
        ]
        return max((one.used for one in alike), default=0.0)

    def tell(self, usages) -> None:
        self.told += usages


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path, clock) -> QuotaLedger:
    return QuotaLedger(tmp_path, clock=clock, sleep=clock.sleep)


def observe(ledger: QuotaLedger, clock: Clock, *, wait_s: float | None = None, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    at = datetime.fromtimestamp(clock.at_s, UTC)
    ledger.observe(PACED, named, host="api.binance.com", wait_s=wait_s, at=at)


def test_requests_are_spaced_a_little_wider_than_the_limit_allows(ledger, clock):
    for _ in range(3):
        ledger.take(PACED)
    assert clock.slept == [0.63, 0.63]


def test_a_request_that_counts_more_makes_more_room(ledger, clock):
    ledger.take(PACED, 5)
    ledger.take(PACED, 0.5)
    ledger.take(PACED)
    assert clock.slept == [3.15, 0.315]


def test_two_ledgers_of_one_folder_share_one_pace(ledger, clock, tmp_path):
    other = QuotaLedger(tmp_path, clock=clock, sleep=clock.sleep)
    ledger.take(PACED)
    other.take(PACED)
    assert clock.slept == [0.63]


def test_other_hosts_and_other_keys_are_not_held_up(ledger, clock):
    ledger.take(PACED)
    ledger.take(Quota(provider="bis", host="stats.bis.org", min_interval_s=1))
    ledger.take(Quota(provider=PACED.provider, host=PACED.host, limits=PACED.limits, key_id="00000000"))
    assert clock.slept == []


def _take(folder, began, count):
    ledger = QuotaLedger(folder)
    quota = Quota(provider="test", host="example.org", limits=(Limit(units=100, window_s=1),))
    for _ in range(count):
        ledger.take(quota)
        began.put(time.time())


def test_processes_and_their_threads_queue_up_for_one_pace(tmp_path):
    fork = multiprocessing.get_context("spawn")
    began = fork.Queue()
    processes = [fork.Process(target=_take, args=(tmp_path, began, 8)) for _ in range(2)]
    for process in processes:
        process.start()
    moments = sorted(began.get(timeout=30) for _ in range(16))
    for process in processes:
        process.join()
    assert moments[-1] - moments[0] >= 15 * 0.01


def test_a_thread_that_overslept_does_not_go_at_the_heels_of_the_next(tmp_path, clock):
    moments = []

    def oversleep(seconds):
        clock.sleep(seconds)
        if len(clock.slept) == 1:  # while this one sleeps too long, another has its turn
            clock.go(seconds=2)
            QuotaLedger(tmp_path, clock=clock, sleep=clock.sleep).take(PACED)
            moments.append(clock.at_s)

    ledger = QuotaLedger(tmp_path, clock=clock, sleep=oversleep)
    for _ in range(2):
        ledger.take(PACED)
        moments.append(clock.at_s)
    assert [round(after - before, 3) for before, after in pairwise(moments)] == [
        2.63,
        0.63,
    ]


def test_a_days_budget_ends_with_when_it_is_renewed(ledger, clock):
    for _ in range(25):
        ledger.take(FREE_KEY)
    with pytest.raises(
        QuotaExhausted, match=r"alphavantage .* allows 25 a day .*renewed at 2024-05-02T04:00:00Z"
    ) as e:
        ledger.take(FREE_KEY)
    assert e.value.renewed_at == datetime(2024, 5, 2, 4, tzinfo=UTC)
    assert ledger.left(FREE_KEY) == 0


def test_the_stricter_of_two_calendars_holds(ledger, clock):
    """At 02:00 UTC it is a new day in London and still the old one in New York."""
    for _ in range(24):
        ledger.take(FREE_KEY)
    clock.go(hours=14)
    assert ledger.left(FREE_KEY) == 1
    clock.go(hours=2)
    assert ledger.left(FREE_KEY) == 25


def test_a_budget_survives_a_restart(ledger, clock, tmp_path):
    for _ in range(10):
        ledger.take(FREE_KEY)
    assert QuotaLedger(tmp_path, clock=clock).left(FREE_KEY) == 15


def _take_and_die(folder):
    ledger = QuotaLedger(folder)
    for _ in range(3):
        ledger.take(FREE_KEY)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_was_about_to_send_is_counted(tmp_path):
    killed = multiprocessing.get_context("spawn").Process(target=_take_and_die, args=(tmp_path,))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert QuotaLedger(tmp_path).left(FREE_KEY) == 22


def test_a_provider_that_says_its_budget_is_spent_is_believed(ledger, clock):
    ledger.take(FREE_KEY)
    assert ledger.exhaust(FREE_KEY) == datetime(2024, 5, 2, 4, tzinfo=UTC)
    assert ledger.left(FREE_KEY) == 0
    assert ledger.exhaust(PACED) is None


def test_what_another_machine_has_used_of_a_day_counts(tmp_path, clock):
    board = Board()
    here, there = (
        QuotaLedger(tmp_path / name, clock=clock, sleep=clock.sleep, share=board)
        for name in ("here", "there")
    )
    for _ in range(20):
        there.take(FREE_KEY)
    assert here.left(FREE_KEY) == 5
    for _ in range(5):
        here.take(FREE_KEY)
    with pytest.raises(QuotaExhausted):
        here.take(FREE_KEY)


def test_usage_is_told_once_with_the_limit_and_the_window(tmp_path, clock):
    board = Board()
    ledger = QuotaLedger(tmp_path, clock=clock, sleep=clock.sleep, share=board)
    ledger.take(PACED)
    ledger.take(PACED)
    ledger.tell()
    ledger.tell()
    (usage,) = board.told
    assert (usage.provider, usage.host, usage.key_id) == ("coinmetrics", "community-api.coinmetrics.io", "")
    assert (usage.allowed, usage.used, usage.window_s, usage.window_start) == (10, 2, 6, NOON)
    assert ledger.usages() == [usage]


def test_usage_is_not_told_more_often_than_wanted(tmp_path, clock):
    board = Board()
    ledger = QuotaLedger(tmp_path, clock=clock, sleep=clock.sleep, share=board)
    for seconds in (0, 30, 30):
        clock.go(seconds=seconds)
        ledger.take(PACED)
        ledger.tell(every_s=60)
    assert [usage.observed_at for usage in board.told] == [NOON, NOON + timedelta(seconds=60)]


def test_no_file_holds_the_key(ledger, tmp_path):
    settings = Settings(_env_file=None, providers={"MNEMO_X_API_KEY": "s3cr3t-key"})
    host = Host(name="X", url="https://x.example", limits=a_day(5), key_setting="MNEMO_X_API_KEY")
    ledger.take(host.quota(settings))
    (path,) = tmp_path.glob("*.json")
    assert "s3cr3t" not in path.name + path.read_text()
    assert path.name == f"x-x.example-{key_id('s3cr3t-key')}.json"


def test_who_is_asked_to_wait_makes_all_wait(ledger, clock, tmp_path):
    ledger.take(PACED)
    observe(ledger, clock, wait_s=30)
    QuotaLedger(tmp_path, clock=clock, sleep=clock.sleep).take(PACED)
    assert clock.slept == [30]


def test_those_who_waited_do_not_go_all_at_once(tmp_path, clock):
    """A refusal that comes while others sleep until their turns gives them new turns behind it."""

    def sleep_and_be_refused(seconds):
        clock.sleep(seconds)
        if len(clock.slept) == 1:
            observe(ledger, clock, wait_s=30)

    ledger = QuotaLedger(tmp_path, clock=clock, sleep=sleep_and_be_refused)
    for _ in range(3):
        ledger.take(PACED)
    assert clock.slept == [0.63, 30.0, 0.63]


def test_a_wait_too_long_to_sit_through_is_left_to_the_caller(ledger, clock):
    observe(ledger, clock, wait_s=3600)
    with pytest.raises(
        Transient, match=r"not asked before 2024-05-01T13:00:00Z: it asked to wait 3600 s"
    ) as e:
        ledger.take(PACED)
    assert (clock.slept, e.value.retry_after_s) == ([], 3600)


def test_waits_are_shown_with_provider_seconds_and_reason(ledger, clock):
    with structlog.testing.capture_logs() as events:
        ledger.take(PACED)
        ledger.take(PACED)
        observe(ledger, clock, wait_s=30)
        ledger.take(PACED)
    assert events == [
        {
            "log_level": "warning",
            "event": "waiting for a provider",
            "provider": "coinmetrics",
            "host": "community-api.coinmetrics.io",
            "wait_s": 30.0,
            "because": "it asked to wait 30 s",
        }
    ]


IN_20_S = NOON + timedelta(seconds=20)


@pytest.mark.parametrize(
    ("headers", "host", "said"),
    [
        (
            {"x-mbx-used-weight-1m": "5500"},
            "api.binance.com",
            Stated(used=5500, allowed=6000, remaining=500, reset_at=NOON + timedelta(minutes=1)),
        ),
        (
            {"x-mbx-used-weight-1m": "12"},
            "api.binance.us",
            Stated(used=12, reset_at=NOON + timedelta(minutes=1)),
        ),
        (
            {
                "x-bapi-limit": "600",
                "x-bapi-limit-status": "598",
                "x-bapi-limit-reset-timestamp": str(int(IN_20_S.timestamp() * 1000)),
            },
            "api.bybit.com",
            Stated(allowed=600, remaining=598, reset_at=IN_20_S),
        ),
        (
            {"gw-ratelimit-limit": "2000", "gw-ratelimit-remaining": "0", "gw-ratelimit-reset": "20000"},
            "api.kucoin.com",
            Stated(allowed=2000, remaining=0, reset_at=IN_20_S),
        ),
        (
            {
                "x-gate-ratelimit-limit": "200",
                "x-gate-ratelimit-requests-remain": "199",
                "x-gate-ratelimit-reset-timestamp": str(int(IN_20_S.timestamp())),
            },
            "api.gateio.ws",
            Stated(allowed=200, remaining=199, reset_at=IN_20_S),
        ),
        (
            {
                "x-ratelimit-limit": "10, 10;w=6",
                "x-ratelimit-remaining": "3",
                "x-ratelimit-reset": "20",
                "x-ratelimit-plan": "community",
            },
            "community-api.coinmetrics.io",
            Stated(allowed=10, remaining=3, reset_at=IN_20_S),
        ),
        ({"x-ratelimit-remaining": "7", "x-ratelimit-reset": "0"}, "x", Stated(remaining=7)),
        ({"content-type": "application/json"}, "x", None),
        ({"x-mbx-used-weight-1m": "much"}, "api.binance.com", None),
    ],
)
def test_what_is_left_is_read_in_each_providers_words(headers, host, said):
    assert stated(headers, host=host, now=NOON) == said


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "20"}, [20]),
        ({"x_ratelimit_remaining": "1", "x_ratelimit_reset": "20"}, []),
        ({"x_ratelimit_remaining": "0"}, []),
        ({"x_mbx_used_weight_1m": "5400"}, [60]),
        ({"x_mbx_used_weight_1m": "5399"}, []),
    ],
)
def test_nothing_is_asked_while_the_provider_says_that_nothing_is_left(ledger, clock, headers, waits):
    observe(ledger, clock, **headers)
    ledger.take(PACED)
    assert clock.slept == waits


def test_a_clock_that_was_put_back_makes_nobody_wait(ledger, clock):
    ledger.take(PACED)
    clock.go(hours=-3)
    ledger.take(PACED)
    assert clock.slept == []


def test_a_file_that_cannot_be_read_is_named(ledger, tmp_path):
    ledger.take(FREE_KEY)
    (path,) = tmp_path.glob("alphavantage*.json")
    path.write_text('{"counts": [')
    with pytest.raises(SettingsError, match=rf"{path.name} is not a ledger of requests .*; remove it"):
        ledger.take(FREE_KEY)
    path.write_text(json.dumps({"unknown": 1}))
    with pytest.raises(SettingsError, match="remove it"):
        ledger.left(FREE_KEY)


@pytest.mark.parametrize(
    ("at", "zone", "start", "end"),
    [
        ("2024-05-01T02:00", "UTC", "2024-05-01T00:00", "2024-05-02T00:00"),
        ("2024-05-01T02:00", "America/New_York", "2024-04-30T04:00", "2024-05-01T04:00"),
        ("2024-03-10T12:00", "America/New_York", "2024-03-10T05:00", "2024-03-11T04:00"),
    ],
    ids=["UTC", "still yesterday in New York", "the day when clocks go forward"],
)
def test_a_day_is_counted_on_the_calendar_of_its_zone(at, zone, start, end):
    (limit,) = a_day(25, zone)
    moment, first, last = (datetime.fromisoformat(f"{text}Z") for text in (at, start, end))
    assert limit.counted_in(moment) == Window(first, last)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("75/min", (Limit(units=75, window_s=60),)),
        ("600/5s, 25/day", (Limit(units=600, window_s=5), *a_day(25))),
        ("1200/1h", (Limit(units=1200, window_s=3600),)),
    ],
)
def test_limits_are_read_as_a_setting_says_them(text, limits):
    assert read_limits(text) == limits


@pytest.mark.parametrize("text", ["75", "0/min", "75/week", "5/0s", "many/min"])
def test_a_limit_that_cannot_be_read_is_named_with_its_setting(text):
    settings = Settings(_env_file=None, providers={"MNEMO_X_LIMITS": text})
    with pytest.raises(SettingsError, match=r"MNEMO_X_LIMITS: .* is not a limit such as 75/min"):
        Host(name="X", url="https://x.example").quota(settings)


def test_limits_of_a_contract_take_the_place_of_those_declared():
    settings = Settings(_env_file=None, providers={"MNEMO_X_LIMITS": "75/min"})
    host = Host(name="X", url="https://x.example", limits=a_day(25), min_interval_s=1.2)
    quota = host.quota(settings)
    assert (str(quota), quota.budgets, round(quota.pace_s, 2)) == ("75 in 60 s", (), 0.84)


def test_what_is_allowed_is_said_in_words():
    assert str(FREE_KEY) == "25 a day (UTC), 25 a day (America/New_York)"
    assert str(PACED) == "10 in 6 s"
    assert str(Quota(provider="ccxt", host="kraken", min_interval_s=1)) == "a request every 1 s"
    assert str(Quota(provider="x", host="y")) == "no limit that is known"
