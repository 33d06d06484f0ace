"""Prefect task: write the lake's page as static HTML beside the tables, and link it.

The page is above the flows and shows what they left, so it is run as the command it is, in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from lakehouse.errors import MnemoError
from lakehouse.settings import Settings
from tasks import session

_COMMAND = (sys.executable, "-m", "deployments.ui.export")
_TIMEOUT_S = 600


@task(name="page", task_run_name="the lake's page", cache_policy=NO_CACHE)
def write_page() -> str:
    """Write the page into the lake's files; returns its key. MnemoError with the command's own words where it fails."""
    settings = session.store().settings
    done = subprocess.run(  # noqa: S603 - our own module
        _COMMAND,
        env={**os.environ, **_named(settings)},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise MnemoError(f"the lake's page could not be written: {said}")
    key = done.stdout.strip().splitlines()[-1]
    create_markdown_artifact(
        key="lake-page",
        description="The lake's page",
        markdown=f"The lake as this run left it: `{session.store().root}/{key}`; `mnemo ui` shows it as it is now.",
    )
    return key


def _named(settings: Settings) -> dict[str, str]:
    """The store of this process, by the settings that another process reads."""
    store = {"MNEMO_LAKE": settings.lake, "MNEMO_S3_REGION": settings.s3_region}
    if not settings.is_s3:
        return store
    keys = {"ACCESS_KEY": settings.s3_access_key, "SECRET_KEY": settings.s3_secret_key.get_secret_value()}
    return {
        **store,
        "MNEMO_S3_ENDPOINT": settings.s3_endpoint,
        **{f"MNEMO_S3_{n}": v for n, v in keys.items()},
    }
