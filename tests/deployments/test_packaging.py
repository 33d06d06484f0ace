"""The wheel, installed where the repository is not: everything that the code reads is in it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from lakehouse.embedded_s3 import release

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
UV = shutil.which("uv") or shutil.which("uv", path=ROOT / ".uv/bin")
ELSEWHERE = """
import json
from pathlib import Path
import deployments
from deployments.register import declared, project_file
print(json.dumps([deployments.__file__, len(declared()), str(project_file("prefect.toml"))]))
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(UV is None, reason="uv is not there")]


def run(*command: str | Path, **options) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--wheel", "--quiet", "--out-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Run a program of an environment that has the wheel, and from this one all other packages, elsewhere."""
    folder = tmp_path_factory.mktemp("elsewhere")
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "env")
    python = folder / "env/bin/python"
    run(UV, "pip", "install", "--quiet", "--no-deps", "--offline", "--python", python, wheel)
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    )
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("MNEMO_", "PREFECT_", "PYTHON"))}
    scripts = os.pathsep.join([str(python.parent), sysconfig.get_path("scripts"), inherited["PATH"]])
    environment = {**inherited, "PATH": scripts, "MNEMO_HOME": str(folder / "home"), "MNEMO_OFFLINE": "1"}

    def call(program: str, *arguments: str) -> str:
        return run(python.parent / program, *arguments, env=environment, cwd=folder).stdout

    yield call
    release(folder / "home", wait=True)


def test_every_file_of_the_packages_is_in_the_wheel(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    there = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert there - held == set()
    assert {"deployments/prefect.yaml", "deployments/prefect.toml"} <= held


def test_the_command_says_its_version(installed):
    assert installed("mnemo", "--version").strip() == PROJECT["project"]["version"]


def test_installed_elsewhere_it_finds_its_deployments_and_settings(installed):
    told = installed("python", "-c", ELSEWHERE)

    assert "elsewhere" in told
    assert str(ROOT) not in told


def test_installed_elsewhere_it_goes_from_recordings_to_data_docs(installed):
    """Recordings, watchlists, tables of exchanges, templates and style sheets, all read from the package."""
    installed("mnemo", "ingest", "bis_series")
    installed(
        "mnemo",
        "ingest",
        "ccxt_ohlcv",
        "--subject",
        "binance:BTC/USDT@1d",
        "--start",
        "2019-01-01",
        "--end",
        "2020-01-02",
    )
    installed("mnemo", "promote", "silver.series", "silver.candles", "gold.candles")

    assert "bis" in installed("mnemo", "read", "silver.series", "--format", "json")
    page = Path(installed("mnemo", "docs", "--no-open").strip())
    assert "<style" in page.read_text() or list(page.parent.rglob("*.css"))
    assert "site/" in installed("mnemo", "ui", "--export")
    assert "settings" in installed("mnemo", "doctor")
