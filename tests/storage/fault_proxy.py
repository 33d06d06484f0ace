"""A proxy in front of an S3 server that answers with errors, slowly or not at all. A process of its own.

`python fault_proxy.py http://127.0.0.1:8333` prints its address. Each line of JSON on standard input says which
requests meet which fault from now on, and is answered by the same line: `{"kind": "error 503", "share": 0.25}` for a
share of them, `{"kind": "refused", "since": "silver/facts/_delta_log/"}` for all from the first PUT below that path on.
`{}` is no fault at all.

Requests are passed on unchanged: they are signed for the address of the proxy, and S3 checks the Host header it gets.
"""

import http.client
import json
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_SLOW_S = 0.2
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length"}


class Plan:
    """Which requests meet the fault."""

    def __init__(self, *, kind: str = "", share: float = 1.0, since: str = "", seed: int = 0) -> None:
        self._kind, self._share, self._since = kind, share, since
        self._chance = random.Random(seed)
        self._has_begun = not since

    def fault(self, method: str, path: str) -> str:
        self._has_begun = self._has_begun or (method == "PUT" and self._since in path)
        return self._kind if self._has_begun and self._chance.random() < self._share else ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = ""
    plan = Plan()

    def handle_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = type(self).plan.fault(self.command, self.path)
        if kind.startswith("error"):
            self._refuse_politely(int(kind.removeprefix("error ")))
        elif kind == "lost answer":
            self._ask_upstream()
            self._hang_up()
        elif kind == "refused":
            self._hang_up()
        else:
            time.sleep(_SLOW_S if kind == "slow" else 0)
            answer, body = self._ask_upstream()
            self._reply(answer.status, answer.getheaders(), body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - names of the standard library

    def log_message(self, *_: object) -> None:
        pass

    def _refuse_politely(self, status: int) -> None:
        text = f"<Error><Code>InternalError</Code><Message>{status} by the proxy</Message></Error>"
        self._reply(status, [("Content-Type", "application/xml")], text.encode())

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _ask_upstream(self) -> tuple[http.client.HTTPResponse, bytes]:
        where = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(self.body)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        self.send_header(
            "Content-Length", dict(headers).get("Content-Length", "0") if is_head else str(len(body))
        )
        self.end_headers()
        if not is_head:
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is none of ours."""


def main() -> None:
    Handler.upstream = sys.argv[1]
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    for line in sys.stdin:
        Handler.plan = Plan(**json.loads(line))
        print(line, end="", flush=True)


if __name__ == "__main__":
    main()
