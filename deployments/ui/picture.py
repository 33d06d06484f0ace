"""The README's picture: a view of the lake that is set. `python -m deployments.ui.picture docs/images/ui.png`

Needs the group `browser` (playwright) and a Chromium: `MNEMO_TEST_CHROMIUM` or one on the path.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from deployments.ui.app import Desk, running, warm
from lakehouse.errors import UsageError

_DRAW_MS = 60_000

UNDRAWN = "figure[data-figure]:not([data-drawn])"
"""The figures of a page that are still to be drawn."""


def chromium() -> str:
    """Where a Chromium is; UsageError where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("MNEMO_TEST_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        raise UsageError("no Chromium was found: install one, or name it with MNEMO_TEST_CHROMIUM")
    return found


def take(address: str, path: Path, *, width: int, height: int, scheme: str) -> None:
    """Write a picture of a page once its figures are drawn, twice as sharp as the size given."""
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=2
        )
        page.goto(address)
        expect(page.locator(UNDRAWN)).to_have_count(0, timeout=_DRAW_MS)
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path)
        browser.close()


def main() -> None:
    """Take the picture that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--view", default="/", help="what to show: path and query of the page")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=760)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    said = parser.parse_args()
    desk = Desk()
    warm(desk)
    with running(desk) as address:
        take(address + said.view, said.path, width=said.width, height=said.height, scheme=said.scheme)


if __name__ == "__main__":
    main()
