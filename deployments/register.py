"""Tell a Prefect server all that it has to know of this project: `python -m deployments.register`.

Blocks, the work pool, the deployments of `prefect.yaml`, the automations. Running it again changes nothing; what an
earlier version had and this one has not is taken away. The server is the one of `PREFECT_API_URL`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from deployments import automations, blocks
from lakehouse.errors import MnemoError
from lakehouse.settings import Settings, load_settings
from tasks.limits import has_prefect_server

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

POOL = "mnemo"
TAG = "mnemo"
_HERE = Path(__file__).parent


def register(settings: Settings, *, process: Mapping[str, str] = MappingProxyType({})) -> None:
    """Bring a server up to date.

    `process` are job variables of the process pool, such as `working_dir` and `command`; those that it has and that
    are not given stay as they are.
    """
    from prefect.client.orchestration import get_client

    if not has_prefect_server():
        raise MnemoError("no Prefect server is named: set PREFECT_API_URL, or use `mnemo up`")
    with get_client(sync_client=True) as client:
        keys = blocks.save(settings)
        _save_pool(client, {**process, "env": dict(blocks.references(keys))})
        switched = _switches(client)
        _deploy()
        _switch_back(client, switched)
        _prune(client)
        automations.apply(client)


def project_file(name: str) -> Path:
    """A file of the repository's root: there, or within the installed package."""
    for path in (_HERE.parent / name, _HERE / name):
        if path.exists():
            return path
    raise MnemoError(f"{name} is neither in {_HERE.parent} nor in {_HERE}")


def declared() -> list[Mapping[str, Any]]:
    """The deployments of `prefect.yaml`."""
    found: list[Mapping[str, Any]] = yaml.safe_load(project_file("prefect.yaml").read_text())["deployments"]
    return found


def prefect_settings() -> Mapping[str, str]:
    """What `prefect.toml` says, as environment variables: it holds wherever a command is started. What is set stays."""
    shipped = dict(_flat(tomllib.loads(project_file("prefect.toml").read_text()), "PREFECT"))
    return {name: value for name, value in shipped.items() if name not in os.environ} | {"DO_NOT_TRACK": "1"}


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """`[server] analytics_enabled = false` as `PREFECT_SERVER_ANALYTICS_ENABLED`, `false`."""
    for key, value in settings.items():
        name = f"{prefix}_{key.upper()}"
        if isinstance(value, dict):
            yield from _flat(value, name)
        else:
            yield name, str(value).lower() if isinstance(value, bool) else str(value)


def _save_pool(client: SyncPrefectClient, defaults: Mapping[str, Any]) -> None:
    """The process pool; one of the same name and another type (docker, kubernetes, ecs) is left as it is."""
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        found = client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        _set_defaults(template, defaults)
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
        return
    if found.type == "process":
        _set_defaults(found.base_job_template, defaults)
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=found.base_job_template))


def _set_defaults(template: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    for name, value in defaults.items():
        template["variables"]["properties"][name]["default"] = value


def _deploy() -> None:
    """`prefect deploy --all`, without questions."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    file = project_file("prefect.yaml")
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [*command, "--prefect-file", str(file)], capture_output=True, text=True, check=False, env=os.environ
    )
    if done.returncode:
        raise MnemoError(f"prefect.yaml could not be deployed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _switches(client: SyncPrefectClient) -> Mapping[tuple[str, str | None], bool]:
    """Which schedules are on: a person may have switched them, and `deploy` would switch them back."""
    return {(one.name, plan.slug): plan.active for one in _ours(client) for plan in one.schedules}


def _switch_back(client: SyncPrefectClient, switched: Mapping[tuple[str, str | None], bool]) -> None:
    for one in _ours(client):
        for plan in one.schedules:
            was = switched.get((one.name, plan.slug), plan.active)
            if was != plan.active:
                client.update_deployment_schedule(one.id, plan.id, active=was)


def _prune(client: SyncPrefectClient) -> None:
    """Deployments of ours that the file no longer has: `deploy --all` leaves them, with their schedules."""
    wanted = {one["name"] for one in declared()}
    for found in _ours(client):
        if found.name not in wanted:
            client.delete_deployment(found.id)


def _ours(client: SyncPrefectClient) -> Sequence[DeploymentResponse]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    return client.read_deployments(deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])))


if __name__ == "__main__":
    os.environ.update(prefect_settings())
    register(load_settings())
