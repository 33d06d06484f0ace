"""Prefect tasks: thin wrappers of one effect each, with retries, names and artifacts."""
