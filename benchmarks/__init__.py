"""Figures beside those of peers; `make bench` runs all of them, `python -m benchmarks.<suite>` one."""
