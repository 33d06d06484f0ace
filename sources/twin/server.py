"""The offline twin: recorded answers over real HTTP, at `http://127.0.0.1:<port>/<original-host>/<path>?<query>`.

Bytes, status and headers are those that were recorded. What is not recorded is answered as that provider
answers for an unknown thing (`sources.twin.unknown`), and logged with the nearest request that is recorded. Where it is
asked to, the twin makes candles (`sources.twin.synthetic`) and a Kraken (`sources.twin.kraken`) up, and refuses a share
of the requests (`Trouble`). What was recorded over WebSocket is played by `sources.twin.websocket`.
"""

from __future__ import annotations

import errno
import random
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import structlog
import uvicorn
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lakehouse.errors import SettingsError
from sources.client import SYNTHETIC
from sources.twin import kraken
from sources.twin.kraken import MadeUpKraken
from sources.twin.recording import Recording, Request, read_folder, request_to
from sources.twin.sessions import read_sessions
from sources.twin.synthetic import synthetic_answer
from sources.twin.tally import Tally
from sources.twin.unknown import nearest, unknown_answer
from sources.twin.websocket import Sockets, recorded_scripts

log = structlog.get_logger()

HOST = "127.0.0.1"
DEFAULT_PORT = 8765

# Bodies are stored decoded and sent whole: what described their way over the wire is no longer true.
_OF_THE_CONNECTION = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
_REPORT = ("twin", "/report")
_BACKLOG = 2048
_STOP_WITHIN_S = 1


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Which share of the requests is refused with 429 and `Retry-After`, and which fails with 503; by chance."""

    refused: float = 0.0
    failing: float = 0.0
    retry_after_s: int = 1
    chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - not a secret

    def answer(self) -> Response | None:
        """The trouble that the next request meets, if any."""
        drawn = self.chance.random()
        if drawn < self.refused:
            headers = {"retry-after": str(self.retry_after_s), "content-type": "text/plain"}
            return Response("Too Many Requests", 429, headers)
        return Response("Service Unavailable", 503) if drawn < self.refused + self.failing else None


class Twin:
    """The ASGI application. Recordings of one request are answered in their order, the last one stays.

    `GET /` tells how many recordings each host has and how many requests were served and unmatched, as JSON;
    `GET /twin/report` what was asked of each host, and where one of its limits was exceeded (`sources.twin.tally`).
    An instance keeps its own place in every sequence and must be served by one event loop.
    """

    def __init__(
        self,
        recordings: Iterable[Recording],
        *,
        synthetic: bool = False,
        trouble: Trouble | None = None,
        sockets: Sockets | None = None,
        made_up: Callable[[Request], bytes | None] | None = None,
    ) -> None:
        self._sockets = sockets or Sockets({})
        self._made_up = made_up or _nothing
        self._is_synthetic = synthetic
        self._trouble = trouble
        self._tally = Tally()
        self._answers: defaultdict[Request, list[Recording]] = defaultdict(list)
        for recording in recordings:
            self._answers[recording.request].append(recording)
        self._asked: Counter[Request] = Counter()
        self._served: Counter[str] = Counter()
        self._unmatched: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._sockets(scope, receive, send)
            return
        asked = _asked(scope, body=await HttpRequest(scope, receive).body())
        await self._respond(asked)(scope, receive, send)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Per host: `recordings`, and how many requests were `served` from them or `unmatched`."""
        recordings: Counter[str] = Counter()
        for request, answers in self._answers.items():
            recordings[request.host] += len(answers)
        return {
            host: {
                "recordings": recordings[host],
                "served": self._served[host],
                "unmatched": self._unmatched[host],
            }
            for host in sorted(recordings.keys() | self._unmatched.keys())
        }

    def _respond(self, asked: Request) -> Response:
        if not asked.host:
            return self._overview()
        if (asked.host, asked.path) == _REPORT:
            return _json(self._tally.report())
        self._tally.ask(asked, at_s=time.monotonic())
        trouble = self._trouble.answer() if self._trouble else None
        response = trouble or self._answer(asked)
        self._tally.answer(asked, response.status_code, is_synthetic=SYNTHETIC in response.headers)
        return response

    def _overview(self) -> Response:
        hosts = self.counts
        total = {
            name: sum(counts[name] for counts in hosts.values())
            for name in ("recordings", "served", "unmatched")
        }
        return _json({**total, "hosts": hosts})

    def _answer(self, asked: Request) -> Response:
        recorded = self._recorded(asked)
        if recorded is None and (body := self._made_up(asked)) is not None:
            return Response(body, 200, {"content-type": "application/json", SYNTHETIC: "1"})
        if (
            recorded is None
            and self._is_synthetic
            and (made_up := synthetic_answer(asked, now_s=time.time()))
        ):
            return made_up
        if recorded is None:
            self._unmatched[asked.host] += 1
            _report(asked, nearest(asked, self._answers.keys()))
            return unknown_answer(asked)
        self._served[asked.host] += 1
        return _replay(recorded)

    def _recorded(self, asked: Request) -> Recording | None:
        """The next recording of a request; one that names the request's body goes first."""
        for request in (asked, asked._replace(body=None)):
            if request in self._answers:
                answers = self._answers[request]
                turn = min(self._asked[request], len(answers) - 1)
                self._asked[request] += 1
                return answers[turn]
        return None


@contextmanager
def running_twin(folder: Path, port: int = 0) -> Iterator[str]:
    """A folder of recordings, served from a thread; yields the base URL. Port 0 takes a free one.

    Raises SettingsError for a folder that cannot be read and for a port that is taken.
    """
    with serving(_twin_of(folder), port) as url:
        yield url


@contextmanager
def serving(twin: Twin, port: int = 0) -> Iterator[str]:
    """A twin, served from a thread until the block is left; yields the base URL."""
    with _listen(port) as listener:
        server = _server(twin)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="offline twin", daemon=True
        )
        thread.start()
        try:
            # The listener already takes connections: they wait for the loop of the server, nobody waits here.
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join()


def serve_forever(
    folder: Path, port: int = DEFAULT_PORT, *, synthetic: bool = False, trouble: Trouble | None = None
) -> None:
    """Serve a folder of recordings until SIGINT (returns) or SIGTERM (ends the process), after open answers.

    Raises SettingsError as `running_twin` does.
    """
    twin = _twin_of(folder, synthetic=synthetic, trouble=trouble)
    with _listen(port) as listener, suppress(KeyboardInterrupt):
        log.info("offline twin serves", url=_url(listener), recordings=str(folder), hosts=list(twin.counts))
        _server(twin).run(sockets=[listener])


def _twin_of(folder: Path, *, synthetic: bool = False, trouble: Trouble | None = None) -> Twin:
    sessions = read_sessions(folder)
    market = MadeUpKraken() if synthetic else None
    made_up = {kraken.STREAM: market.connection} if market else {}
    asked = [recording for session in sessions for recording in session.recordings]
    return Twin(
        [*read_folder(folder), *asked],
        synthetic=synthetic,
        trouble=trouble,
        sockets=Sockets({**made_up, **recorded_scripts(sessions)}),
        made_up=market.answer_to if market else _nothing,
    )


def _nothing(_asked: Request) -> bytes | None:
    return None


def _asked(scope: Scope, *, body: bytes) -> Request:
    host, _, path = scope["path"].lstrip("/").partition("/")
    query = scope["query_string"].decode("latin-1")
    return request_to(scope["method"], host=host, path=f"/{path}", query=query, body=body)


def _json(said: object) -> Response:
    return Response(orjson.dumps(said), 200, {"content-type": "application/json"})


def _replay(recording: Recording) -> Response:
    headers = {name: value for name, value in recording.headers.items() if name not in _OF_THE_CONNECTION}
    return Response(recording.body, recording.status, headers)


def _report(asked: Request, hint: dict[str, object]) -> None:
    shown = dict(asked.parameters)
    log.warning(
        "request not recorded", method=asked.method, host=asked.host, path=asked.path, asked=shown, **hint
    )


def _server(twin: Twin) -> uvicorn.Server:
    config = uvicorn.Config(
        twin,
        loop="asyncio",
        http="h11",
        ws="websockets-sansio",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
    )
    return uvicorn.Server(config)


def _listen(port: int) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where TCP is named; with it an answer takes 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "it is in use" if taken else str(error)
        raise SettingsError(f"the offline twin cannot listen on port {port} of {HOST}: {reason}") from None
    return listener


def _url(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}"
