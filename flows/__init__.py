"""Prefect flows: what runs, in the order it runs."""
