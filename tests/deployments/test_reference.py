"""The generated pages say what the code says."""

from pathlib import Path

import pytest

from deployments.reference import pages

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", pages())
def test_a_generated_page_is_as_the_code_would_write_it_now(name):
    assert (ROOT / name).read_text() == pages()[name], "run `make docs`"
