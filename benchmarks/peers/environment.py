"""Other libraries, each in an environment of its own under `.cache/peers`, made when it is first asked for.

A peer is a script beside this file. It is told on its standard input what to do, as JSON, and answers with JSON in the
last line of its standard output: what it measured in its own process around the work alone, and what it found, so that
ours can be compared. It needs its library and `benchmarks.measure`, nothing else of this project.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
ENVIRONMENTS = PROJECT / ".cache/peers"


class LeftOut(Exception):
    """Why a peer cannot be measured here."""


def leave_out(what: str, why: LeftOut) -> None:
    """Say so, where figures are told."""
    print(f"left out: {what}: {why}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Environment:
    """What `<name>.txt` pins, of Python, or of Node where `is_node`. Another content makes it anew."""

    name: str
    is_node: bool = False

    def set_up(self) -> None:
        """Make it unless it is there; raises LeftOut where that cannot be done."""
        pins = HERE / f"{self.name}.txt"
        ready = self.folder / ".ready"
        if ready.is_file() and ready.read_text() == pins.read_text():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self.is_node:
            quietly = ("--no-audit", "--no-fund", "--ignore-scripts")
            _run(["npm", "install", "--prefix", str(self.folder), *quietly, *pins.read_text().split()])
        else:
            _run([sys.executable, "-m", "venv", str(self.folder)])
            pip = str(self.folder / "bin/pip")
            _run([pip, "install", "--quiet", "--retries=1", "-r", str(pins)])
        ready.write_text(pins.read_text())

    def run(self, script: str, told: Mapping[str, Any]) -> Any:
        """What the script answers. Raises LeftOut where it fails."""
        self.set_up()
        path = str(HERE / script)
        command = (
            ["node", path, str(self.folder)] if self.is_node else [str(self.folder / "bin/python"), path]
        )
        try:
            return json.loads(_run(command, told=json.dumps(told)).splitlines()[-1])
        except LeftOut as why:
            raise LeftOut(str(why).replace(str(told.get("secret") or "\0"), "***")) from None

    @property
    def folder(self) -> Path:
        """Where it is."""
        return ENVIRONMENTS / self.name


def _run(command: list[str], *, told: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    try:
        done = subprocess.run(
            command, input=told, env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise LeftOut(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        last = (done.stderr.strip() or "nothing said").splitlines()[-1]
        raise LeftOut(f"{Path(command[0]).name} ended with {done.returncode}: {last[:200]}")
    return done.stdout
