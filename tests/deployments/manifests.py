"""What Compose files, Kubernetes manifests and work pools name, looked up where it is defined."""

import ast
import re
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import typer
from prefect.cli._app import _app as prefect_cli
from prefect.settings.legacy import _get_valid_setting_names
from prefect.settings.models.root import Settings as PrefectSettings

from deployments.cli import app
from lakehouse.settings import load_settings

ROOT = Path(__file__).parents[2]
IMAGE = f"mnemo-quant:{version('mnemo-quant')}"
OUR_USER = "10001"
SECRET_NAME = re.compile(r"PASSWORD|SECRET|_KEY|TOKEN|AUTH|CONNECTION_URL")


def check_settings(variables: dict[str, str], monkeypatch, folder: Path) -> None:
    """Fail unless all `MNEMO_*` and `PREFECT_*` are settings that there are, with values that fit."""
    unknown = [name for name in variables if name.startswith("PREFECT_") and name not in prefect_names()]
    assert unknown == []
    monkeypatch.chdir(folder)  # no .env, no prefect.toml
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    load_settings()
    PrefectSettings()


def prefect_names() -> set[str]:
    return _get_valid_setting_names(PrefectSettings)


def check_command(command: Sequence[str]) -> None:
    """Fail unless a command of our image and all its options are known; nothing is run."""
    program, *arguments = command
    {"mnemo": _check_mnemo, "prefect": _check_prefect, "dask": _check_dask, "python": _check_python}[program](
        arguments
    )


def urls_in(command: Sequence[str]) -> list[str]:
    """The addresses that a health check asks."""
    return re.findall(r"http://[^\s'\"]+", " ".join(command))


def port_of(url: str) -> int:
    return urlsplit(url).port


def _check_mnemo(arguments: Sequence[str]) -> None:
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context("mnemo", list(arguments))


def _check_prefect(arguments: Sequence[str]) -> None:
    prefect_cli.parse_args(arguments, exit_on_error=False, print_error=False)


def _check_dask(arguments: Sequence[str]) -> None:
    name, *options = arguments
    (found,) = entry_points(group="dask_cli", name=name)
    found.load().make_context(name, options)


def _check_python(arguments: Sequence[str]) -> None:
    kind, said = arguments
    if kind == "-c":
        ast.parse(said)
    else:
        assert kind == "-m"
        assert 'if __name__ == "__main__":' in Path(find_spec(said).origin).read_text()
