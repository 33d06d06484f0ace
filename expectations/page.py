"""A verdict's Data Docs page: rendered by Great Expectations, framed by a template of ours.

The library's own frame loads styles and scripts from public networks; ours carries all it needs. The library writes
values from the data into the page as they are: here they are escaped, and the page forbids every script.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, get_args

from jinja2 import pass_context

from expectations.polars_gx.library import (
    DefaultJinjaPageView,
    ExpectationSuiteValidationResult,
    ValidationResultsPageRenderer,
)
from lakehouse.conform import explain_reason
from lakehouse.contract import Severity
from lakehouse.verdict import Verdict


def render_page(
    result: ExpectationSuiteValidationResult, verdict: Verdict, summary: Mapping[str, Any]
) -> str:
    """HTML that needs no network. `summary` heads it: table, batch, time, level, rows, failed rows."""
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
    del document.sections[0].content_blocks[0]  # its heading: our own says more and has no link to nowhere
    table = verdict.batch.table
    reasons = [(name, rows, explain_reason(table, name)) for name, rows in verdict.reasons.items()]
    failed = sorted((finding for finding in verdict.findings if not finding.passed), key=lambda f: f.severity)
    view = _PageView(custom_views_directory=str(Path(__file__).parent / "templates"))
    return str(view.render(document, summary=summary, reasons=reasons, failed=failed))


class _PageView(DefaultJinjaPageView):  # type: ignore[misc] # the library is read without types
    """The library's view with our frame; text is escaped wherever the library passes it through as it is."""

    _template = "verdict_page.j2"

    @pass_context
    def render_content_block(self, jinja_context: Any, content_block: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(content_block, str):
            return escape(content_block)
        if isinstance(content_block, list):
            content_block = [escape(part) if isinstance(part, str) else part for part in content_block]
        return super().render_content_block(jinja_context, content_block, *args, **kwargs)

    def render_string_template(self, template: Any) -> Any:
        if isinstance(template, dict) and set(template) == {"template"}:
            return _described(template["template"])
        return super().render_string_template(template)


def _described(text: str) -> str:
    """An expectation's description, plain text without parameters; the severity at its end becomes a mark."""
    said, _, severity = text.removesuffix(")").rpartition(" (")
    if severity not in get_args(Severity):
        return escape(text)
    return f'<span class="severity {severity}">{severity}</span> {escape(said)}'
