"""Other libraries, each in an environment of its own under `.cache/peers`, made when it is first asked for.

A peer is a script beside this file. It is told on its standard input which recorded files to play, how often, and
whether books are to be kept as ours are; it answers the CPU seconds of each run over all files, measured in its own
process around the playing alone, and what it found: trades, and the best prices at the end.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".cache/peers"


class LeftOut(Exception):
    """Why a peer cannot be measured here."""


class Played(NamedTuple):
    """CPU seconds of the best run; of each file its trades, and where books are kept best bid and ask in the end."""

    cpu_s: float
    trades: list[int]
    best: list[list[float]] | None


@dataclass(frozen=True, kw_only=True)
class Peer:
    """`install` and `command` are told their folder as {folder}."""

    name: str
    keeps: str
    """What it does besides where books are to be kept as ours are."""
    pins: str
    """The file that names its versions; another content makes the environment anew."""
    install: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]

    def set_up(self) -> None:
        """Make its environment unless it is there; raises LeftOut where that cannot be done."""
        ready, pins = self._folder / ".ready", (HERE / self.pins).read_text()
        if ready.is_file() and ready.read_text() == pins:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        for command in self.install:
            self._run(command)
        ready.write_text(pins)

    def play(self, told: Mapping[str, Any]) -> Played:
        """Raises LeftOut where the peer fails."""
        said = json.loads(self._run(self.command, told=json.dumps(told)))
        return Played(min(said["cpu_s"]), said["trades"], said["best"])

    @property
    def _folder(self) -> Path:
        return ENVIRONMENTS / Path(self.pins).stem

    def _run(self, command: tuple[str, ...], *, told: str = "") -> str:
        words = [word.format(folder=self._folder, here=HERE) for word in command]
        try:
            done = subprocess.run(words, input=told, capture_output=True, text=True, check=False)
        except OSError as error:
            raise LeftOut(f"{words[0]} cannot be run: {error.strerror}") from error
        if done.returncode:
            last = (done.stderr.strip() or "nothing said").splitlines()[-1]
            raise LeftOut(f"{Path(words[0]).name} ended with {done.returncode}: {last[:200]}")
        return done.stdout


PEERS = (
    Peer(
        name="cryptofeed playback",
        keeps="best prices read after each change",
        pins="cryptofeed.txt",
        install=(
            (sys.executable, "-m", "venv", "{folder}"),
            ("{folder}/bin/pip", "install", "--quiet", "--retries=1", "-r", "{here}/cryptofeed.txt"),
        ),
        command=("{folder}/bin/python", "{here}/cryptofeed_playback.py"),
    ),
    Peer(
        name="tardis-dev replayNormalized",
        keeps="its OrderBook kept, looking for crossed levels",
        pins="tardis-dev.txt",
        install=(
            (
                *("npm", "install", "--prefix", "{folder}", "--no-audit", "--no-fund", "--ignore-scripts"),
                *(HERE / "tardis-dev.txt").read_text().split(),
            ),
        ),
        command=("node", "{here}/tardis_replay.mjs", "{folder}"),
    ),
)
