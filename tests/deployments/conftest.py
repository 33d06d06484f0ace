"""The local platform as a user has it: `mnemo up` and `mnemo down` in a folder of their own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from deployments.held import holders

ROOT = Path(__file__).parents[2]
MNEMO = Path(sys.executable).with_name("mnemo")


@dataclass(frozen=True)
class Platform:
    """A platform that runs or not; `api` asks its Prefect server."""

    folder: Path
    port: int
    variables: dict[str, str]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def mnemo(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [MNEMO, *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr + self.logs()
        return done

    @property
    def environment(self) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("MNEMO_", "PREFECT_", "PYTHONDONT"))}
        return {**kept, "MNEMO_HOME": str(self.home), **self.variables}

    def up(self) -> str:
        return self.mnemo("up", "--detach", "--port", str(self.port)).stdout

    def running(self) -> dict[str, int]:
        """Name and pid of each process of this platform."""
        return holders(self.home / "platform", "*")

    def api(self, path: str, body: dict | None = None, *, method: str = "POST"):
        """An answer of the Prefect server; it may be down for a while."""
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}/api", trust_env=False, timeout=30
        ) as client:
            answer = self.until(lambda: _asked(client, method, path, body), 180, f"an answer to {path}")
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict:
        return self.api(f"/deployments/name/{name}/{name}", method="GET")

    def start(
        self,
        name: str,
        *,
        parameters: dict | None = None,
        environment: dict | None = None,
        state: str = "SCHEDULED",
    ) -> str:
        """Ask for a run of a deployment; its id."""
        wanted = {"parameters": parameters or {}, "state": {"type": state}}
        if environment:
            declared = self.deployment(name)["job_variables"].get("env", {})
            wanted["job_variables"] = {"env": {**declared, **environment}}
        return self.api(f"/deployments/{self.deployment(name)['id']}/create_flow_run", wanted)["id"]

    def run(self, run_id: str) -> dict:
        return self.api(f"/flow_runs/{run_id}", method="GET")

    def runs(self, *states: str, deployment: str | None = None) -> list[dict]:
        asked: dict = {"flow_runs": {"state": {"type": {"any_": list(states)}}}, "limit": 200}
        if deployment:
            asked["deployments"] = {"name": {"any_": [deployment]}}
        return self.api("/flow_runs/filter", asked)

    def until(self, found: Callable, seconds: float, about: str):
        """What `found` returns once that is something; a busy machine is given its time."""
        deadline = time.monotonic() + seconds
        while not (value := found()):
            assert time.monotonic() < deadline, f"waited {seconds} s for {about}\n{self.logs()}"
            time.sleep(0.5)
        return value

    def logs(self) -> str:
        texts = {path: path.read_text(errors="replace") for path in (self.home / "platform").glob("*.log")}
        return "".join(f"\n--- {path.name}\n{text[-3000:]}" for path, text in sorted(texts.items()))


def _asked(client: httpx.Client, method: str, path: str, body: dict | None) -> httpx.Response | None:
    try:
        answer = client.request(method, path, json=body)
    except httpx.TransportError:
        return None
    return None if answer.status_code in {500, 502, 503} else answer


@pytest.fixture(scope="module")
def make_platform(tmp_path_factory) -> Iterator[Callable[..., Platform]]:
    """Platforms that are down when the tests are over, whatever happened."""
    made = []

    def make(**variables: str) -> Platform:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        made.append(Platform(tmp_path_factory.mktemp("platform"), port, {"MNEMO_OFFLINE": "1", **variables}))
        return made[-1]

    yield make
    for platform in made:
        platform.mnemo("down", check=False)
