"""Run a command against a real MinIO that is started for it: `python tests/stores/minio.py BINARY COMMAND ...`.

The server listens on loopback, with keys and a folder made for this one run; the command finds it by
MNEMO_TEST_S3_ENDPOINT, MNEMO_TEST_S3_ACCESS_KEY and MNEMO_TEST_S3_SECRET_KEY, and its exit code is ours.
"""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

START_S = 60.0
STOP_S = 15.0


def main() -> int:
    binary, *command = sys.argv[1:]
    if not Path(binary).exists():
        print(f"skipped: no MinIO at {binary}; it is built with Go")
        return 0
    keys = {"MINIO_ROOT_USER": secrets.token_hex(10), "MINIO_ROOT_PASSWORD": secrets.token_hex(20)}
    with tempfile.TemporaryDirectory(prefix="mnemo-minio-") as folder:
        address = f"127.0.0.1:{_free_port()}"
        with (Path(folder) / "minio.log").open("wb") as log:
            server = subprocess.Popen(
                [
                    binary,
                    "server",
                    "--quiet",
                    "--address",
                    address,
                    "--console-address",
                    "127.0.0.1:0",
                    f"{folder}/data",
                ],
                env={
                    **os.environ,
                    **keys,
                    "MINIO_BROWSER": "off",
                    "MINIO_UPDATE": "off",
                    "MINIO_CALLHOME_ENABLE": "off",
                },
                stdout=log,
                stderr=log,
            )
        try:
            _wait_ready(server, address, Path(folder) / "minio.log")
            found = {
                "MNEMO_TEST_S3_ENDPOINT": f"http://{address}",
                "MNEMO_TEST_S3_ACCESS_KEY": keys["MINIO_ROOT_USER"],
                "MNEMO_TEST_S3_SECRET_KEY": keys["MINIO_ROOT_PASSWORD"],
            }
            return subprocess.run(command, env={**os.environ, **found}, check=False).returncode
        finally:
            server.terminate()
            server.wait(timeout=STOP_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_ready(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{address}/minio/health/ready", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit(f"MinIO did not start:\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
