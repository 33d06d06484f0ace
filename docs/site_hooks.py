"""What the site does to the pages of this folder (mkdocs.yml): pages of the repository's root join them.

A link to one of those is a link within the site; the name of any other file of the repository stays as text, since the
site does not hold it. A link to nothing is left alone, and `mkdocs build --strict` refuses it.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
JOINING = {"CONTRIBUTING.md": "contributing.md", "DECISIONS.md": "decisions.md", "CHANGELOG.md": "changes.md"}

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the pages of the root in."""
    for source, name in JOINING.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Mend the links that leave `docs/`."""
    folder = ROOT if page.file.src_uri in JOINING.values() else ROOT / "docs"
    return _LINK.sub(lambda link: _within_site(link, folder), markdown)


def _within_site(link: re.Match[str], folder: Path) -> str:
    target = (folder / link["target"]).resolve()
    anchor = link["anchor"] or ""
    if target.parent == ROOT and target.name in JOINING:
        return f"[{link['text']}]({JOINING[target.name]}{anchor})"
    if target.is_relative_to(ROOT / "docs"):
        return f"[{link['text']}]({target.relative_to(ROOT / 'docs')}{anchor})"
    return link["text"] if target.exists() else link[0]
