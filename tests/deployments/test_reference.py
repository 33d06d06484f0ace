"""The generated pages say what the code says."""

import re
from pathlib import Path

import pytest

from deployments.reference import pages

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", pages())
def test_a_generated_page_is_as_the_code_would_write_it_now(name):
    assert (ROOT / name).read_text() == pages()[name], "run `make docs`"


def test_every_test_that_the_page_of_traps_names_exists():
    files = {str(path): path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    missing = []
    for line in (ROOT / "docs/traps.md").read_text().splitlines():
        file = ""
        for path, name in re.findall(r"([\w/]*\.py)?::(\w+)", line):
            file = path or file
            texts = [text for where, text in files.items() if where.endswith(f"/{file}")]
            if not any(f"def {name}(" in text for text in texts):
                missing.append(f"{file}::{name}")

    assert missing == []
