"""All rules of what is unexpected, by the names of the library's map metrics and of those of our own expectations."""

from __future__ import annotations

from expectations.polars_gx import of_records, of_sequences, of_values
from expectations.polars_gx.condition import Rule

CONDITIONS: dict[str, Rule] = {**of_values.RULES, **of_records.RULES, **of_sequences.RULES}

SUFFIXES = (
    ".unexpected_count",
    ".unexpected_values",
    ".unexpected_index_list",
    ".unexpected_index_query",
    ".unexpected_rows",
    ".filtered_row_count",
)
"""What the library asks of a condition, behind the name of its metric."""
