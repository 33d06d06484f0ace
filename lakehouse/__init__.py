"""The lake: contracts, storage, promotion and reading. Imports neither Prefect nor Great Expectations."""

from lakehouse.read import Lake
from lakehouse.window import Window

__all__ = ["Lake", "Window"]
