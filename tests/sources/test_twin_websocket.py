"""The twin over WebSocket plays what was recorded, as fast as it is told to, and goes wrong on demand."""

import asyncio
import math
import random
from datetime import UTC, datetime, timedelta

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from lakehouse.errors import SettingsError
from sources.twin.recording import Recording
from sources.twin.server import Twin, serving
from sources.twin.sessions import Event, RecordedSession, read_sessions, write_session
from sources.twin.websocket import Faults, Sockets, altered, fuzzed, recorded_scripts

START = datetime(2024, 1, 1, tzinfo=UTC)
FRAMES = [f'{{"number":{number},"checksum":1{number}}}' for number in range(6)]


def session(*, seconds_apart: float = 1) -> RecordedSession:
    at = [START + timedelta(seconds=seconds_apart * number) for number in range(8)]
    events = [
        Event(kind="connect", at=at[0], url="wss://stream.example.org/v1"),
        Event(kind="recv", at=at[0], text=FRAMES[0]),
        Event(kind="send", at=at[0], text="subscribe"),
        *(Event(kind="recv", at=at[number], text=FRAMES[number]) for number in range(1, 6)),
        Event(kind="http", at=at[6], url="https://api.example.org/depth?symbol=X", text='{"bids":[]}'),
    ]
    return RecordedSession(url="wss://stream.example.org/v1", events=tuple(events))


async def heard(url: str, *, says: bool = True, path: str = "stream.example.org/v1") -> list[str]:
    """Everything until the twin closes, or is silent."""
    found = []
    async with connect(f"{url.replace('http', 'ws', 1)}/{path}") as socket:
        try:
            found.append(await socket.recv())
            if says:
                await socket.send("subscribe, please")
            while True:
                found.append(await asyncio.wait_for(socket.recv(), 0.5))
        except (ConnectionClosed, TimeoutError):
            return found


def play(faults: Faults | None = None, *, speed: float = math.inf, says: bool = True) -> list[str]:
    sockets = Sockets(recorded_scripts([session()], speed=speed), faults=faults)
    with serving(Twin([], sockets=sockets)) as url:
        return asyncio.run(heard(url, says=says))


def test_a_session_is_played_in_order_and_waits_for_the_first_message():
    assert play() == FRAMES
    assert play(says=False) == FRAMES[:1]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("gap", [FRAMES[0], *FRAMES[2:]]),
        ("duplicate", [FRAMES[0], FRAMES[1], *FRAMES[1:]]),
        ("reorder", [FRAMES[0], FRAMES[2], FRAMES[1], *FRAMES[3:]]),
        ("alter", [FRAMES[0], '{"number":1,"checksum":10}', *FRAMES[2:]]),
        ("disconnect", FRAMES[:1]),
        ("stall", FRAMES[:1]),
    ],
)
def test_faults_come_when_they_are_due(kind, expected):
    faults = Faults(kinds=(kind,), every_s=1e-9)
    only_once = faults.next
    faults.next = lambda now_s, frame: None if faults.injected else only_once(now_s, frame)
    assert play(faults) == expected


def test_sessions_are_read_from_the_folder_of_recordings_with_what_was_asked_over_rest(tmp_path):
    write_session(tmp_path / "example" / "one.ws.jsonl.gz", session())
    assert read_sessions(tmp_path) == [session()]
    (recording,) = session().recordings
    assert recording.body == b'{"bids":[]}'
    assert isinstance(recording, Recording)


def test_a_line_that_is_no_event_is_named(tmp_path):
    (tmp_path / "one.ws.jsonl").write_text(
        '{"event":"connect","at":"2024-01-01","url":"wss://x"}\n{"text":1}\n'
    )
    with pytest.raises(SettingsError, match=r"one\.ws\.jsonl, line 2"):
        read_sessions(tmp_path)


def test_an_altered_frame_has_another_checksum_and_a_fuzzed_one_is_another_text():
    assert altered('{"checksum":12}') == '{"checksum":13}'
    assert altered('{"price":"1.5"}') == '{"price":"1.4"}'
    assert any(fuzzed(FRAMES[0], random.Random(seed)) != FRAMES[0] for seed in range(5))
