"""Who is told of what and when, decided from histories; routes and messages."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.alert_messages import Origin, pagerduty, slack, text, title
from lakehouse.alert_routes import Route, masked, read_routes
from lakehouse.alerting import CLAIM_HOLDS, Entry, plan, read_history, rows
from lakehouse.alerts import Alert, from_promotions, gates_of, looked_for
from lakehouse.errors import SettingsError
from lakehouse.ops import ALERTS
from lakehouse.publish import Promoted

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ORIGIN = Origin(lake="s3://lake/mnemo", address=lambda key: f"https://files.example/{key}")
EXAMPLE = Path(__file__).parents[2] / "deployments" / "alerts.example.yaml"


def alert(monitor="gaps", subject="kraken:BTC/USD", severity="warning", **but) -> Alert:
    said = {"table": "silver.trades", "owner": "market-data", "summary": "3 gaps, the longest 42 min", **but}
    return Alert(monitor=monitor, subject=subject, severity=severity, **said)


def route(name="desk", **but) -> Route:
    return Route(name=name, to="json://127.0.0.1/", **but)


class History:
    """`ops.alerts` in memory; what is claimed is sent at once, or fails."""

    def __init__(self, *routes: Route) -> None:
        self.frame = ALERTS.schema.to_frame()
        self.routes = routes
        self.now = NOON

    @property
    def known(self):
        return read_history(self.frame.lazy())

    def claim(self, *found: Alert, checked=("gaps",)) -> list[Entry]:
        entries = plan(self.known, found, checked=checked, routes=self.routes, now=self.now)
        self.write(entries)
        return [entry for entry in entries if entry.event == "claimed"]

    def tell(self, *found: Alert, checked=("gaps",), works=True) -> list[tuple[str, str, str]]:
        """Route, status and subject of what was sent."""
        notices = self.claim(*found, checked=checked)
        event = "sent" if works else "failed"
        self.write([Entry(**{**vars(notice), "event": event}) for notice in notices])
        return [(notice.route, notice.status, notice.alert.subject) for notice in notices if works]

    def write(self, entries) -> None:
        serial = (self.frame["serial"].max() or 0) + 1
        self.frame = pl.concat([self.frame, rows(entries, serial=serial, run_id="test", now=self.now)])


def test_an_alert_is_told_once_and_its_end_once():
    history = History(route())
    assert history.tell(alert()) == [("desk", "open", "kraken:BTC/USD")]
    assert history.tell(alert()) == []
    assert history.tell() == [("desk", "resolved", "kraken:BTC/USD")]
    assert history.tell() == []


def test_what_nobody_looked_for_stays_open():
    history = History(route())
    history.tell(
        alert("gate", "bronze.a", table="silver.trades"), alert("gate", "bronze.b", table="silver.bars")
    )
    assert history.tell(checked=["gaps", looked_for("gate", "gold.candles")]) == []
    assert history.tell(checked=["gate:silver.trades:bronze.b"]) == []
    assert history.tell(checked=["gate:silver.trades:bronze.a"]) == [("desk", "resolved", "bronze.a")]
    assert history.tell(checked=["gate"]) == [("desk", "resolved", "bronze.b")]


def test_an_open_alert_is_told_again_after_the_cool_down_and_when_it_becomes_critical():
    history = History(route(cooldown="6h"))
    history.tell(alert())
    history.now += 5 * HOUR
    assert history.tell(alert()) == []
    history.now += HOUR
    assert history.tell(checked=()) == []
    assert len(history.tell(alert())) == 1
    assert len(history.tell(alert(severity="critical"))) == 1
    assert history.tell(alert(severity="critical")) == []
    assert history.tell(alert()) == []


def test_an_alert_that_comes_and_goes_is_told_once_a_cool_down():
    history = History(route(cooldown="1h"))
    sent = []
    for _ in range(10):
        sent += history.tell(alert()) + history.tell()
        history.now += timedelta(minutes=20)
    assert [status for _, status, _ in sent] == ["open", "resolved"] * 4


def test_what_could_not_be_sent_is_sent_by_the_next_call_whatever_it_looked_for():
    history = History(route())
    assert history.tell(alert(), works=False) == []
    assert history.tell(checked=["staleness"]) == [("desk", "open", "kraken:BTC/USD")]
    assert history.tell(works=False) == []
    assert history.tell(checked=["staleness"]) == [("desk", "resolved", "kraken:BTC/USD")]


def test_what_began_and_ended_while_a_route_was_down_is_told_as_over():
    history = History(route())
    history.tell(alert(), works=False)
    assert history.tell() == [("desk", "resolved", "kraken:BTC/USD")]


def test_a_reminder_that_failed_is_sent_by_the_next_call():
    history = History(route(cooldown="1h"))
    history.tell(alert())
    history.now += HOUR
    history.tell(alert(), works=False)
    assert len(history.tell(checked=())) == 1
    assert history.tell(checked=()) == []


def test_a_claim_holds_until_its_process_must_be_dead():
    history = History(route())
    assert len(history.claim(alert())) == 1
    assert history.claim(alert()) == []
    history.now += CLAIM_HOLDS
    assert len(history.claim(alert())) == 1


def test_a_silenced_alert_is_told_again_after_the_silence_and_when_it_is_over():
    history = History(route(cooldown="1h"))
    history.tell(alert())
    silenced = Entry(event="silenced", status="open", alert=alert(), silenced_until=NOON + 3 * HOUR)
    history.write([silenced])
    history.now += 2 * HOUR
    assert history.tell(alert(severity="critical")) == []
    history.now += HOUR
    assert len(history.tell(alert())) == 1
    assert len(history.tell()) == 1


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [
        ({}, True),
        ({"severity": "critical"}, False),
        ({"tables": ["silver.*"]}, True),
        ({"tables": ["gold.*"]}, False),
        ({"owners": ["market-data"], "monitors": ["gaps", "drift"]}, True),
        ({"owners": ["macro"]}, False),
        ({"monitors": ["drift"]}, False),
    ],
)
def test_a_route_hears_only_of_what_it_wants(wanted, goes):
    assert bool(History(route(**wanted)).tell(alert())) is goes


def test_an_end_goes_to_those_who_heard_of_the_beginning():
    history = History(route(), route("on-call", severity="critical"))
    assert len(history.tell(alert(severity="critical"))) == 2
    assert history.tell(alert()) == []
    assert [name for name, _, _ in history.tell()] == ["desk", "on-call"]


def test_found_twice_at_once_the_worst_counts():
    history = History(route())
    history.tell(alert(severity="critical"), alert())
    (only,) = history.known.open.values()
    assert only.severity == "critical"


MONITORS = ("gaps", "drift")
FOUND = st.dictionaries(
    st.tuples(st.sampled_from(MONITORS), st.sampled_from(["a", "b"])),
    st.sampled_from(["warning", "critical"]),
)
STEPS = st.lists(
    st.tuples(st.sets(st.sampled_from(MONITORS)), FOUND, st.integers(1, 90), st.booleans()),
    min_size=1,
    max_size=12,
)


@given(steps=STEPS, can_fail=st.booleans())
def test_whatever_is_found_open_is_what_was_found_last_and_everybody_hears_of_it_once(steps, can_fail):
    history, cooldown = History(route(cooldown="1h")), HOUR
    believed: dict[tuple[str, str], str] = {}
    heard: dict[tuple[str, str], list[tuple[datetime, str, str]]] = {}
    for checked, everything, minutes, works in steps:
        history.now += timedelta(minutes=minutes)
        found = {name: severity for name, severity in everything.items() if name[0] in checked}
        believed = {name: said for name, said in believed.items() if name[0] not in checked} | found
        notices = history.claim(
            *(alert(*name, severity) for name, severity in found.items()), checked=checked
        )
        arrives = works or not can_fail
        history.write([Entry(**{**vars(one), "event": "sent" if arrives else "failed"}) for one in notices])
        for one in notices if arrives else ():
            name = (one.alert.monitor, one.alert.subject)
            heard.setdefault(name, []).append((history.now, one.status, one.alert.severity))
        assert {(a.monitor, a.subject): a.severity for a in history.known.open.values()} == believed
        if arrives:
            _assert_nobody_is_left_in_the_dark(believed, heard, history.now, cooldown)
    for messages in heard.values():
        _assert_nothing_is_told_twice(messages, cooldown, is_reliable=not can_fail)


def _assert_nobody_is_left_in_the_dark(believed, heard, now, cooldown):
    for name, severity in believed.items():
        told = [one for one in heard.get(name, ()) if one[1] == "open"]
        assert told, "open, and nobody was told"
        is_quiet = now - told[-1][0] < cooldown and (severity == "warning" or told[-1][2] == "critical")
        assert heard[name][-1][1] == "open" or is_quiet
    for name, messages in heard.items():
        assert name in believed or messages[-1][1] == "resolved"


def _assert_nothing_is_told_twice(messages, cooldown, *, is_reliable):
    opens = [one for one in messages if one[1] == "open"]
    for before, after in pairwise(opens):
        is_worse = (before[2], after[2]) == ("warning", "critical")
        assert after[0] - before[0] >= cooldown or is_worse or not is_reliable
    for before, after in pairwise(messages):
        assert (before[1], after[1]) != ("resolved", "resolved") or not is_reliable
    assert messages[0][1] == "open" or not is_reliable


def test_the_example_file_is_a_file_of_routes():
    environment = dict.fromkeys(
        ("MNEMO_SLACK_URL", "MNEMO_ALERT_SMTP", "MNEMO_PAGERDUTY_API_KEY"), "https://x"
    )
    assert {one.name for one in read_routes(EXAMPLE, environment)} >= {"desk", "on-call", "macro-mail"}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("- {name: a, to: 'slack+${NOPE_URL}'}", "route a: NOPE_URL is not set"),
        ("- {name: a}", "either to: or block:"),
        ("- {name: a, to: 'json://SECRET', block: slack-webhook/a}", "either to: or block:"),
        ("- {name: a, to: SECRET}", "to: is not an address"),
        (
            "- {name: a, to: 'json://SECRET', severity: bad}",
            "severity: Input should be 'critical' or 'warning'",
        ),
        ("- {name: a, to: 'json://SECRET', cooldown: soon}", "cooldown: Value error, not a span of time"),
        ("- {name: a, to: 'json://SECRET', table: x}", "table: Extra inputs"),
        ("- {name: a, to: 'json://SECRET'}\n- {name: a, to: 'json://SECRET'}", "a is there twice"),
        ("name: a\nto: json://SECRET", "wants a list of routes"),
        ("- {name: 'a, to: json://SECRET", "not YAML"),
    ],
)
def test_a_wrong_file_is_refused_without_showing_its_addresses(tmp_path, file, said):
    path = tmp_path / "alerts.yaml"
    path.write_text(file)
    with pytest.raises(SettingsError, match="routes of alerts") as caught:
        read_routes(path, {})
    assert said in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_no_file_is_no_routes_and_a_missing_one_an_error(tmp_path):
    assert read_routes(None, {}) == ()
    with pytest.raises(SettingsError, match="MNEMO_ALERTS"):
        read_routes(tmp_path / "none.yaml", {})


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("slack+https://hooks.example/services/T000/B000/s3cr3t", "s3cr3t"),
        ("pagerduty+https://s3cr3t@hooks.example/v2/enqueue", "s3cr3t"),
        ("mailto://me:s3cr3t@hooks.example?to=you@example.com", "s3cr3t"),
        ("mailto://me:s3%20cr3t@hooks.example", "s3 cr3t"),
        ("json://hooks.example/?token=s3cr3t", "s3cr3t"),
    ],
)
def test_of_an_address_only_the_host_is_shown(address, secret):
    shown = masked(f"{address} refuses {secret} at hooks.example", address)
    assert shown == "*** refuses *** at hooks.example"


def notice(status="open", **but) -> Entry:
    return Entry(event="claimed", status=status, alert=alert(**but))


def test_a_message_counts_and_tells_the_worst_first_with_owner_link_and_how_to_silence():
    notices = [
        notice(subject="b", link="docs/silver.trades/1.html"),
        notice("resolved", subject="c"),
        notice(subject="a", severity="critical", link="https://ui.example/run"),
    ]
    assert title(notices, ORIGIN) == "1 critical, 1 warning, 1 resolved in s3://lake/mnemo"
    first, second, third = text(notices, ORIGIN).split("\n\n")
    assert first.splitlines() == [
        "[critical] gaps · silver.trades · a",
        "3 gaps, the longest 42 min",
        "owner: market-data",
        "read on: https://ui.example/run",
        f"silence: mnemo alerts silence {notices[2].alert.fingerprint} --hours 24 --why ...",
    ]
    assert second.splitlines()[::3] == [
        "[warning] gaps · silver.trades · b",
        "read on: https://files.example/docs/silver.trades/1.html",
    ]
    assert third.splitlines() == [
        "[resolved] gaps · silver.trades · c",
        "3 gaps, the longest 42 min",
        "owner: market-data",
    ]


def test_what_a_provider_said_cannot_call_a_channel_or_break_lines():
    said = slack([notice(summary="<!channel>\n& more")], ORIGIN)["text"]
    assert "&lt;!channel&gt; &amp; more" in said


def test_a_long_list_is_cut_and_says_so():
    said = text([notice(subject=str(number)) for number in range(30)], ORIGIN)
    assert said.count("[warning]") == 20
    assert said.endswith("and 10 more: mnemo alerts list")


def test_an_incident_is_triggered_and_resolved_under_one_key():
    opened = pagerduty(notice(severity="critical", link="docs/1.html"), ORIGIN, routing_key="R")
    over = pagerduty(notice("resolved", severity="critical"), ORIGIN, routing_key="R")
    assert (opened["event_action"], over["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == over["dedup_key"] == alert().fingerprint
    assert opened["links"] == [{"href": "https://files.example/docs/1.html", "text": "Read on"}]
    assert {name: opened["payload"][name] for name in ("summary", "source", "severity")} == {
        "summary": "gaps · silver.trades · kraken:BTC/USD: 3 gaps, the longest 42 min",
        "source": "s3://lake/mnemo",
        "severity": "critical",
    }


def promoted(level, table="silver.trades", rows_held=0, **reasons) -> Promoted:
    return Promoted(
        table=table,
        inputs=("bronze.ccxt_trades",),
        batch_id="b1",
        level=level,
        published_rows=7,
        quarantined_rows=rows_held,
        reasons=reasons,
        docs_key="docs/1.html",
    )


def test_a_blocked_batch_is_critical_a_warning_is_one_and_nothing_new_says_nothing():
    done = [
        promoted("blocked", rows_held=3, price_too_low=2),
        promoted("warning", "silver.bars"),
        promoted("passed"),
    ]
    blocked, warned = from_promotions([*done, promoted(None, "silver.candles")])
    assert (blocked.severity, blocked.table, blocked.link) == ("critical", "silver.trades", "docs/1.html")
    assert blocked.summary == (
        "batch b1 was blocked, 3 rows wait in quarantine: price_too_low 2; `mnemo quarantine show b1`"
    )
    assert (warned.severity, warned.table) == ("warning", "silver.bars")
    assert gates_of([promoted("passed"), promoted(None, "silver.candles")]) == {
        "gate:silver.trades:bronze.ccxt_trades"
    }
