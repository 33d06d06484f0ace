"""docs/commands.md: the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import typer

from deployments.cli import app
from deployments.reference.markdown import page, table

_ABOUT = """Generated from the command line by `make docs`; every command tells the same with `--help`.

Exit codes: 0 done, 1 failure, 2 wrong usage. Options of `mnemo` itself stand before the command: `mnemo -v ...`."""


def commands_page() -> str:
    """The page's text."""
    sections = [part for name, command in commands().items() for part in _section(name, command)]
    return page("# Commands", _ABOUT, _table(typer.main.get_command(app)), *sections)


def commands() -> Mapping[str, Any]:
    """Every command of `mnemo` that does something, by the words that call it: `quarantine list`."""
    return MappingProxyType(dict(_below(typer.main.get_command(app), ())))


def taken_by(command: Any) -> Iterator[tuple[str, str]]:
    """The arguments and options of a command, but `--help`: how each is written, and what it is for."""
    context = typer.Context(command)
    for parameter in command.get_params(context):
        names, meaning = parameter.get_help_record(context) or ("", "")
        if names != "--help":
            yield names, meaning


def _below(group: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _below(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def _section(name: str, command: Any) -> Iterator[str]:
    usage = " ".join(["mnemo", name, *command.collect_usage_pieces(typer.Context(command))])
    yield f"## mnemo {name}"
    yield str(command.help)
    yield f"```sh\n{usage}\n```"
    yield _table(command)


def _table(command: Any) -> str:
    rows = [(f"`{names}`", meaning) for names, meaning in taken_by(command)]
    return table(("takes", "meaning"), rows) if rows else ""
