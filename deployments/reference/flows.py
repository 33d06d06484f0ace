"""docs/flows.md: the flows, and the deployments of prefect.yaml that run them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deployments.reference.markdown import page, table

_ABOUT = """Generated from the flows and `prefect.yaml` by `make docs`. A deployment is a flow with parameters and
a time; [deploying](deploy.md) says how they are run, changed and watched."""
_COLUMNS = ("deployment", "flow", "when", "tags", "what")


def flows_page(root: Path) -> str:
    """The page's text; `root` is the folder of prefect.yaml."""
    sections = [part for name, flow in flows(root).items() for part in _section(name, flow)]
    return page("# Flows", _ABOUT, table(_COLUMNS, map(_cells, deployments(root))), *sections)


def flows(root: Path) -> Mapping[str, Any]:
    """The flows by the names of their modules in `flows/`, which they share."""
    names = sorted(path.stem for path in (root / "flows").glob("[!_]*.py"))
    return {name: getattr(importlib.import_module(f"flows.{name}"), name) for name in names}


def deployments(root: Path) -> list[Mapping[str, Any]]:
    """What prefect.yaml declares."""
    return list(yaml.safe_load((root / "prefect.yaml").read_text())["deployments"])


def _cells(deployment: Mapping[str, Any]) -> Sequence[str]:
    when = ", ".join(map(_when, deployment.get("schedules", ()))) or "by hand, or by an event"
    flow = deployment["entrypoint"].rpartition(".")[2]
    tags = ", ".join(deployment["tags"])
    return f"`{deployment['name']}`", f"[{flow}](#{flow})", when, tags, deployment["description"]


def _when(schedule: Mapping[str, Any]) -> str:
    at = f"cron `{schedule['cron']}`" if "cron" in schedule else f"every {schedule['interval']} s"
    return f"{at}, {schedule['timezone']}" + ("" if schedule.get("active", True) else "; off")


def _section(name: str, flow: Any) -> Sequence[str]:
    takes = [
        f"`{one}`" if one in flow.parameters.required else f"`{one}` (by default `{said.get('default')}`)"
        for one, said in flow.parameters.properties.items()
    ]
    parameters = f"Parameters: {', '.join(takes)}." if takes else "No parameters."
    limit = f" Stopped after {flow.timeout_seconds / 60:g} minutes." if flow.timeout_seconds else ""
    return f"## {name}", str(flow.description), f"`flows.{name}.{name}`. {parameters}{limit}"
