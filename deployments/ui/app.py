"""The page as an ASGI app: GET only, on loopback only, and a page that says so where the lake cannot be read."""

from __future__ import annotations

import threading
import time
import traceback
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import polars as pl
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from deployments.ui.blocks import Page, Text
from deployments.ui.menu import VIEWS, View
from deployments.ui.render import STATIC, Frame, fingerprint, render, static_file
from deployments.ui.shelf import Shelf
from deployments.ui.views.lineage import lineage
from deployments.ui.views.overview import overview
from deployments.ui.views.upkept import upkeep
from lakehouse import Lake
from lakehouse.errors import MnemoError, UsageError

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
_START_S = 60.0
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'"
_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_DOCS_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json", ".css": "text/css"}
_KINDS = {".css": "text/css", ".js": "text/javascript"}

log = structlog.get_logger()


@dataclass
class Desk:
    """Opens the lake when it is first asked for, and again as long as that fails."""

    open_lake: Callable[[], Lake] = Lake.open
    _shelf: Shelf | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def shelf(self) -> Shelf:
        """The open lake's tables."""
        with self._lock:
            if self._shelf is None:
                self._shelf = Shelf(self.open_lake())
            return self._shelf


def make_app(desk: Desk | None = None) -> Starlette:
    """The app over one lake, by default the one that the settings name."""
    desk = desk or Desk()
    routes = [Route(view.path, partial(_view, desk, view), methods=["GET"]) for view in VIEWS]
    routes.append(Route("/static/{name}", _static, methods=["GET"]))
    routes.append(Route("/docs/{key:path}", partial(_docs, desk), methods=["GET"]))
    # Names of other hosts are refused: a page of the web must not read this one through its own name.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return Starlette(routes=routes, middleware=[hosts], exception_handlers={404: _nowhere})


def serve(port: int, *, open_browser: bool, tell: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `tell` gets the address once the lake is open, or is known not to open."""
    import uvicorn

    desk = Desk()
    address = f"http://{HOST}:{port}/"
    warm(desk)
    tell(address)
    if open_browser:
        webbrowser.open(address)
    uvicorn.Server(_configuration(desk, port)).run()


@contextmanager
def running(desk: Desk) -> Iterator[str]:
    """The page served on a free port of loopback; its address."""
    import uvicorn

    server = uvicorn.Server(_configuration(desk, 0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_S
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield f"http://{HOST}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_START_S)


def warm(desk: Desk) -> None:
    """Do once what is slow the first time: open every table, import the providers, read the tables' logs."""
    try:
        for view in (overview, lineage, upkeep):
            view(desk.shelf(), {})
    except (MnemoError, OSError, pl.exceptions.PolarsError) as error:
        log.warning("the lake cannot be read yet", because=str(error))


def _configuration(desk: Desk, port: int) -> uvicorn.Config:
    import uvicorn

    return uvicorn.Config(
        make_app(desk),
        host=HOST,
        port=port,
        log_level="warning",
        server_header=False,
        ws="none",
        lifespan="off",
    )


def _view(desk: Desk, view: View, request: Request) -> Response:
    """A view, or a page that says why it cannot be shown."""
    try:
        page = view.build(desk.shelf(), dict(request.query_params))
        return _html(page, view.path, 200)
    except UsageError as error:
        return _html(_sorry("There is no such thing", str(error)), view.path, 404)
    except MnemoError as error:
        return _html(_sorry("The lake cannot be read", str(error)), view.path, 503)
    except (pl.exceptions.PolarsError, OSError) as error:
        log.error("a table cannot be read", view=view.path, because=str(error))  # noqa: TRY400 - one line is enough
        return _html(_sorry("A table cannot be read", f"{type(error).__name__}; {_TELLS}"), view.path, 503)
    except Exception:  # noqa: BLE001 - the outermost frame of a view
        # As text: the renderer of logs would print the values of variables, keys among them.
        log.error("a view failed", view=view.path, trace=traceback.format_exc())  # noqa: TRY400
        return _html(_sorry("This view failed", f"This is a defect of the page; {_TELLS}"), view.path, 500)


_TELLS = "the terminal that `mnemo ui` runs in says more. The other views may work."


def _sorry(title: str, said: str) -> Page:
    return Page(title=title, blocks=(Text(said, "bad"),))


def _html(page: Page, path: str, status: int) -> Response:
    frame = Frame(resolve=lambda href: href or None, asset=_asset)
    return HTMLResponse(render(page, frame, path), status_code=status, headers=_HEADERS)


def _asset(name: str) -> str:
    return f"/static/{name}?v={fingerprint(name)}"


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return PlainTextResponse("no such file", status_code=404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(static_file(name), media_type=_KINDS[PurePosixPath(name).suffix], headers=headers)


def _docs(desk: Desk, request: Request) -> Response:
    """A page of the Data Docs, as the gate wrote it into the lake."""
    key = PurePosixPath("docs", request.path_params["key"])
    if ".." in key.parts or key.suffix not in _TYPES:
        return _html(_sorry("There is no such page", "Data Docs are pages below docs/."), "", 404)
    try:
        found = desk.shelf().lake.files.get(str(key))
    except FileNotFoundError:
        return _html(
            _sorry("There is no such page", f"{key} is not in the lake; upkeep may have removed it."), "", 404
        )
    except MnemoError as error:
        return _html(_sorry("The lake cannot be read", str(error)), "", 503)
    headers = {**_HEADERS, "Content-Security-Policy": _DOCS_POLICY}
    return Response(found, media_type=_TYPES[key.suffix], headers=headers)


async def _nowhere(_request: Request, _error: Exception) -> Response:
    return _html(_sorry("There is no such page", "The menu lists what there is."), "", 404)
