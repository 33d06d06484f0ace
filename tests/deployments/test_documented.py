"""Nothing that people can use is without a page, and what pages name exists. The lists come from the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from benchmarks.page import with_figures
from benchmarks.report import figure
from deployments.reference.commands import commands, taken_by
from deployments.reference.flows import deployments, flows
from deployments.reference.settings import hosts, key_settings
from expectations.monitors import MONITORS
from lakehouse import catalog
from lakehouse.settings import Settings
from sources.registry import feeds

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`(?!MNEMO_HOME)((?:[\w.-]+/)*[\w-]+\.(?:py|yaml|toml|lock|json|mk|xml|sh))`")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def headings(name: str) -> list[str]:
    return HEADING.findall(page(name))


@pytest.mark.parametrize("table", catalog.tables())
def test_every_table_has_a_section(table):
    assert table in headings("tables.md")


@pytest.mark.parametrize("feed", feeds())
def test_every_feed_has_a_line(feed):
    assert f"| `{feed}` |" in page("feeds.md")


@pytest.mark.parametrize("flow", flows(ROOT))
def test_every_flow_has_a_section(flow):
    assert flow in headings("flows.md")


@pytest.mark.parametrize("deployment", [one["name"] for one in deployments(ROOT)])
def test_every_deployment_has_a_line_and_is_explained(deployment):
    assert f"| `{deployment}` |" in page("flows.md")
    assert f"| {deployment} |" in page("deploy.md")


@pytest.mark.parametrize("command", commands())
def test_every_command_has_a_section_with_all_that_it_takes(command):
    section = page("commands.md").partition(f"\n## mnemo {command}\n")[2].partition("\n## ")[0]
    assert section
    unnamed = [
        names
        for names, _ in taken_by(commands()[command])
        if f"`{names.replace('|', chr(92) + '|')}`" not in section
    ]
    assert unnamed == []


@pytest.mark.parametrize("command", commands())
def test_every_command_and_what_it_takes_has_a_meaning(command):
    assert commands()[command].help
    assert [names for names, meaning in taken_by(commands()[command]) if not meaning.strip()] == []


@pytest.mark.parametrize("command", commands())
def test_every_command_is_used_on_a_page_written_by_hand(command):
    written = [text.read_text() for text in PAGES if text.name != "commands.md"]
    assert any(re.search(rf"mnemo {command}\b", text) for text in written)


def test_every_setting_has_a_line():
    general = {f"MNEMO_{name.upper()}" for name in Settings.model_fields if name != "providers"}
    of_hosts = {f"MNEMO_{host.name}_{what}" for host in hosts() for what in ("URL", "LIMITS")}
    wanted = general | of_hosts | set(key_settings())

    assert {name for name in wanted if f"`{name}`" not in page("settings.md")} == set()


@pytest.mark.parametrize("monitor", [one.name for one in MONITORS])
def test_every_monitor_has_a_line(monitor):
    assert f"| `{monitor}` |" in page("monitors.md")


def test_new_figures_take_the_place_of_the_old_and_leave_the_words():
    suite = {"suite": "gate", "taken_at": "today", "machine": "2 cores", "load_before": 0.1}
    suite["figures"] = [figure("read", [2000, 12.5, 10], "s", peer="pandas", ratio=2)]
    once = with_figures(page("performance.md"), [suite])

    assert "## gate\n\nTaken today on 2 cores" in once
    assert "| read | 12.5 | 10 to 2,000 | s | pandas | 2x |  |" in once
    assert with_figures(once, [suite]) == once
    assert once.partition("<!--")[0] == page("performance.md").partition("<!--")[0]
    assert once.rpartition("-->")[2] == page("performance.md").rpartition("-->")[2]


def test_every_page_is_in_the_sites_menu_once():
    menu = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    joining = {"contributing.md", "decisions.md", "changes.md"}

    assert sorted(menu) == sorted({one.name for one in ROOT.glob("docs/*.md")} | joining)


def leaves(menu: object) -> Iterator[str]:
    if isinstance(menu, str):
        yield menu
        return
    for one in menu.values() if isinstance(menu, dict) else menu:
        yield from leaves(one)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path):
    text = FENCED.sub("", path.read_text())
    dead = [link for link in LINK.findall(text) if "://" not in link and not leads(path, unquote(link))]

    assert dead == []


def leads(path: Path, link: str) -> bool:
    """Whether a relative link leads to a file, and to a heading of it where it names one."""
    target, _, anchor = link.partition("#")
    found = path.parent / target if target else path
    return found.exists() and (not anchor or anchor in anchors(found.read_text()))


def anchors(text: str) -> set[str]:
    """The ids of a page's headings."""
    plain = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", one).lower() for one in HEADING.findall(FENCED.sub("", text)))
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", one).strip()) for one in plain}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_file_that_a_page_names_exists(path):
    names = set(NAMED.findall(path.read_text()))

    assert {name for name in names if not is_file_of_ours(name)} == set()


def is_file_of_ours(name: str) -> bool:
    """A path from the root; a bare name may be that of any file."""
    if "/" in name:
        return (ROOT / name).is_file()
    return any(ROOT.glob(name)) or any(found for part in OURS for found in (ROOT / part).rglob(name))


OURS = (
    "benchmarks",
    "deployments",
    "docs",
    "expectations",
    "flows",
    "lakehouse",
    "notebooks",
    "recordings",
    "sources",
    "tasks",
    "tests",
)
