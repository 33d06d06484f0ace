"""All tables and models, found by looking at the files of `silver/` and `gold/`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from types import MappingProxyType, ModuleType

import lakehouse.gold
import lakehouse.silver
from lakehouse.contract import Table
from lakehouse.errors import unknown
from lakehouse.model import Model
from lakehouse.ops import TABLES as OPS_TABLES


@cache
def tables() -> Mapping[str, Table]:
    """Silver, gold and ops tables by name; bronze tables belong to feeds."""
    silver = {module.TABLE.name: module.TABLE for module in _modules(lakehouse.silver)}
    gold = {name: model.table for name, model in models().items()}
    return MappingProxyType({**silver, **gold, **{table.name: table for table in OPS_TABLES}})


@cache
def models() -> Mapping[str, Model]:
    """Gold models by the name of their table, each after those it reads."""
    found = {module.MODEL.table.name: module.MODEL for module in _modules(lakehouse.gold)}
    order = TopologicalSorter({name: sorted(set(model.inputs) & set(found)) for name, model in found.items()})
    return MappingProxyType({name: found[name] for name in order.static_order()})


def table(name: str) -> Table:
    """The contract of that name; UsageError with the nearest names otherwise."""
    if name not in tables():
        raise unknown("table", name, tables())
    return tables()[name]


def promotion_order() -> tuple[str, ...]:
    """Every table that promotions fill, each after what it is made from."""
    silver = sorted(name for name in tables() if name.startswith("silver."))
    return (*silver, *models())


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
        yield importlib.import_module(f"{package.__name__}.{found.name}")
