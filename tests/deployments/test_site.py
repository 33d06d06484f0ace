"""The built site needs no network: `make site` fetches nothing, and no page refers to anything elsewhere."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
ELSEWHERE = re.compile(r"(?:https?:)?//", re.IGNORECASE)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("material") is None,
        reason="mkdocs-material is in the dependency group `site`",
    ),
]


class Loaded(HTMLParser):
    """What a page makes a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        self.addresses.append(said.get(LOADS.get(tag, "")) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    built = tmp_path_factory.mktemp("site")
    # Whoever wants the network finds a port at which nobody listens.
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", built],
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return built


def test_no_page_loads_anything_from_elsewhere(site):
    pages = {path.relative_to(site): Loaded() for path in site.rglob("*.html")}
    for path, loaded in pages.items():
        loaded.feed((site / path).read_text())

    assert len(pages) > 30
    outside = {
        (str(path), one) for path, loaded in pages.items() for one in loaded.addresses if ELSEWHERE.match(one)
    }
    assert outside == set()


def test_no_style_loads_anything_from_elsewhere(site):
    wanted = re.compile(r"(?:@import\s+|url\()['\"]?((?:https?:)?//[^'\")]+)")
    found = {one for path in site.rglob("*.css") for one in wanted.findall(path.read_text())}

    assert found == set()


def test_no_page_asks_the_theme_to_fetch_a_drawing_library(site):
    """The theme loads Mermaid and MathJax from elsewhere, once a page has a use for them."""
    assert [path.name for path in site.rglob("*.html") if 'class="mermaid"' in path.read_text()] == []


def test_what_is_looked_for_is_in_the_site(site):
    index = (site / "search/search_index.json").read_text()

    assert all(one in index for one in ("silver.trades", "MNEMO_RETENTION_DAYS", "quarantine release"))
