"""The gate: Great Expectations suites derived from the contracts, judged by Polars."""
