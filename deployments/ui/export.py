"""The page as files: every view as it stands now, and a page for each table. `python -m deployments.ui.export`

A bounded set: forms and explanations need the living page. Links between the files and to the Data Docs beside them
are relative, so that the folder can be opened from a disk, a bucket or any web server.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deployments.ui.blocks import Page, Text, to
from deployments.ui.menu import VIEWS, View
from deployments.ui.render import STATIC, Frame, render, static_file
from deployments.ui.shelf import Shelf
from lakehouse import Lake
from lakehouse.errors import MnemoError
from lakehouse.files import Files
from lakehouse.window import iso

FOLDER = "site/"
INDEX = f"{FOLDER}index.html"
_POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src data:; base-uri 'none'"
)


@dataclass(frozen=True)
class _File:
    """One page to be written: its name, its view and what the view is asked."""

    name: str
    view: View
    asked: Mapping[str, str]

    @property
    def address(self) -> str:
        """How living pages link to it."""
        return to(self.view.path, **self.asked)


def write_site(shelf: Shelf, files: Files) -> str:
    """Write all pages below `site/`; returns the key of the first. A view that fails says so on its page."""
    pages = list(_files(shelf))
    names = {one.address: one.name for one in pages}
    frame = Frame(
        resolve=lambda href: _resolved(href, names),
        asset=lambda name: name,
        is_live=False,
        said_at=f"Written {iso(shelf.now())}; `mnemo ui` shows the lake as it is now.",
        policy=_POLICY,
    )
    for one in pages:
        files.put(FOLDER + one.name, render(_built(shelf, one), frame, one.view.path).encode())
    for name in STATIC:
        files.put(FOLDER + name, static_file(name))
    return INDEX


def export(lake: Lake) -> str:
    """Write the site of a lake into its own store; returns the key of its first page."""
    return write_site(Shelf(lake), lake.files)


def _files(shelf: Shelf) -> Iterator[_File]:
    by_path = {view.path: view for view in VIEWS}
    for view in VIEWS:
        if view.menu:
            yield _File(f"{view.path.strip('/') or 'index'}.html", view, {})
    for one in shelf.facts():
        yield _File(f"table-{one.table.name}.html", by_path["/table"], {"name": one.table.name})


def _built(shelf: Shelf, one: _File) -> Page:
    try:
        return one.view.build(shelf, one.asked)
    except MnemoError as error:
        return Page(title=one.view.menu or one.name, blocks=(Text(str(error), "bad"),))


def _resolved(href: str, names: Mapping[str, str]) -> str | None:
    """The file that an address of the living page is in; None for what was not written."""
    if href.startswith("/docs/"):
        return f"..{href}"
    return names.get(href)


def main() -> None:
    """Write the site of the lake that the settings name, and print where it is."""
    try:
        sys.stdout.write(export(Lake.open()) + "\n")
    except MnemoError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
