"""Least privilege: reader keys read and nothing else, writer keys reach no bucket but the lake's.

On the embedded server with the keys that it makes; on MinIO with the policies of deployments/policies/, which keys of
a session get by AssumeRole.
"""

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import boto3
import polars as pl
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from pydantic import SecretStr

from lakehouse import Lake
from lakehouse.embedded_s3 import Server, ensure_running, release
from lakehouse.errors import StoreUnavailable
from lakehouse.settings import Settings
from lakehouse.silver.observations import TABLE
from lakehouse.store import open_store

POLICIES = Path(__file__).parents[2] / "deployments/policies"
ROLES = ("reader", "writer")
OTHER = "other"
KEPT = "kept"
NOON = datetime(2024, 4, 30, 12, tzinfo=UTC)
ROW = {
    "series_id": "GDP",
    "period_start": NOON.date(),
    "event_at": NOON,
    "known_at": NOON,
    "ingested_at": NOON,
    "page_id": 1,
    "provider": "fred",
    "known_at_basis": "published",
    "value": 1.6,
    "unit": "Percent",
    "unit_multiplier": 0,
    "status": None,
}
READS = {
    "get": lambda s3, bucket: s3.get_object(Bucket=bucket, Key=KEPT),
    "list": lambda s3, bucket: s3.list_objects_v2(Bucket=bucket),
}
WRITES = {
    "put": lambda s3, bucket: s3.put_object(Bucket=bucket, Key="new", Body=b"1"),
    "copy": lambda s3, bucket: s3.copy_object(Bucket=bucket, Key="new", CopySource=f"{bucket}/{KEPT}"),
    "upload in parts": lambda s3, bucket: s3.create_multipart_upload(Bucket=bucket, Key="new"),
    "delete": lambda s3, bucket: s3.delete_object(Bucket=bucket, Key="new"),
    "delete many": lambda s3, bucket: s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "new"}]}),
}
ADMINISTRATION = {
    "make a bucket": lambda s3, _: s3.create_bucket(Bucket="another"),
    "delete the bucket": lambda s3, bucket: s3.delete_bucket(Bucket=bucket),
    "open the bucket to all": lambda s3, bucket: s3.put_bucket_policy(Bucket=bucket, Policy=policy("writer")),
}


@dataclass(frozen=True)
class Keys:
    """Credentials; with a token those of a session."""

    access_key: str
    secret_key: str
    token: str | None = None


@pytest.fixture(scope="module")
def server(s3, tmp_path_factory) -> Iterator[Server]:
    """The server of all tests, or an embedded one of its own: with a second bucket."""
    if not isinstance(s3, Server):
        connect(s3.endpoint, Keys(s3.access_key, s3.secret_key)).create_bucket(Bucket=OTHER)
        yield s3
        return
    home = tmp_path_factory.mktemp("home")
    own = ensure_running(home, bucket="lake")
    make_bucket_in_shell(own)
    yield own
    release(home, wait=True)


@pytest.fixture(scope="module")
def keys(server) -> dict[str, Keys]:
    """The credentials of each role, and an object that both may read."""
    if isinstance(server, Server):
        made = {"reader": Keys(*server.reader_keys), "writer": Keys(server.access_key, server.secret_key)}
    else:
        sts = connect(server.endpoint, Keys(server.access_key, server.secret_key), "sts")
        made = {role: session(sts, role) for role in ROLES}
    connect(server.endpoint, made["writer"]).put_object(Bucket="lake", Key=KEPT, Body=b"1")
    return made


@pytest.fixture
def as_role(server, keys, request):
    """Connect with a role's keys."""
    return lambda role: connect(server.endpoint, keys[role])


@pytest.fixture
def settings_of(server, keys, settings):
    """Settings of one fresh lake, with a role's keys."""
    if not isinstance(server, Server):
        pytest.skip("keys of a session have a token, which settings do not hold")

    def made(role: str) -> Settings:
        own = {
            "s3_endpoint": server.endpoint,
            "s3_access_key": keys[role].access_key,
            "s3_secret_key": SecretStr(keys[role].secret_key),
        }
        return settings.model_copy(update=own)

    return made


@pytest.mark.parametrize("ask", READS.values(), ids=READS)
@pytest.mark.parametrize("role", ROLES)
def test_both_roles_read_the_lakes_bucket(as_role, role, ask):
    assert ask(as_role(role), "lake")


@pytest.mark.parametrize("change", WRITES.values(), ids=WRITES)
def test_the_writer_writes_and_the_reader_does_not(as_role, change):
    assert not refused(change, as_role("writer"), "lake")
    assert refused(change, as_role("reader"), "lake")


@pytest.mark.parametrize("ask", [*READS.values(), *WRITES.values()], ids=[*READS, *WRITES])
@pytest.mark.parametrize("role", ROLES)
def test_no_role_reaches_another_bucket(as_role, role, ask):
    assert refused(ask, as_role(role), OTHER)


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_copied_out_of_another_bucket(as_role, role):
    def copy(s3, bucket):
        s3.copy_object(Bucket=bucket, Key="new", CopySource=f"{OTHER}/{KEPT}")

    assert refused(copy, as_role(role), "lake")


@pytest.mark.parametrize("change", ADMINISTRATION.values(), ids=ADMINISTRATION)
@pytest.mark.parametrize("role", ROLES)
def test_no_role_administers(as_role, role, change):
    assert refused(change, as_role(role), "lake")


def test_a_lake_opened_with_reader_keys_reads_everything_and_never_tries_to_write(settings_of, proxy_of):
    writer = settings_of("writer")
    open_store(writer).open(TABLE).append(
        pl.DataFrame([ROW], schema=TABLE.schema, orient="row"), positions={}, said={}
    )
    proxy = proxy_of(writer.s3_endpoint)
    proxy.fail(kind="error 500", since="/")  # from the first PUT on, whoever swallows its error
    lake = Lake.open(settings_of("reader").model_copy(update={"s3_endpoint": proxy.endpoint}))

    for _ in range(2):
        assert lake.scan(TABLE.name).collect()["value"].to_list() == [1.6]
        assert lake.scan(TABLE.name, as_of="2024-05-01").collect().height == 1
        assert [one["table"] for one in lake.tables()] == [TABLE.name]
        assert lake.sql(f"select value from {TABLE.name}")["value"].to_list() == [1.6]
        assert lake.coverage().is_empty()
        assert pl.scan_delta(lake.uri(TABLE.name), storage_options=lake.storage_options).collect().height == 1


def test_a_writer_of_a_lake_with_reader_keys_is_refused_and_told_which_settings(settings_of):
    with pytest.raises(StoreUnavailable, match="MNEMO_S3_ACCESS_KEY"):
        open_store(settings_of("reader")).open(TABLE)


def test_a_home_folder_of_an_earlier_version_gets_reader_keys_and_keeps_its_own(tmp_path):
    before = ensure_running(tmp_path, bucket="lake")
    release(tmp_path, wait=True)
    path = tmp_path / "s3" / "keys.json"
    path.write_text(json.dumps({"access_key": before.access_key, "secret_key": before.secret_key}))

    after = ensure_running(tmp_path, bucket="lake")
    reader = connect(after.endpoint, Keys(*after.reader_keys))

    assert (after.access_key, after.secret_key) == (before.access_key, before.secret_key)
    assert reader.list_objects_v2(Bucket="lake")["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert refused(WRITES["put"], reader, "lake")
    release(tmp_path, wait=True)


@pytest.mark.parametrize("role", ROLES)
def test_a_policy_names_single_actions_on_one_bucket(role):
    for statement in json.loads(policy(role))["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not [action for action in statement["Action"] if "*" in action]
        assert set(statement["Resource"]) <= {"arn:aws:s3:::lake", "arn:aws:s3:::lake/*"}


def policy(role: str) -> str:
    return (POLICIES / f"{role}.json").read_text().replace("${BUCKET}", "lake")


def connect(endpoint: str, keys: Keys, service: str = "s3"):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.token,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}),
    )


def refused(ask, s3, bucket: str) -> bool:
    """Whether the store denies access; a refusal of many deletions stands in its answer."""
    try:
        answer = ask(s3, bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return True
    errors = (answer or {}).get("Errors", [])
    assert {one["Code"] for one in errors} <= {"AccessDenied"}
    return bool(errors)


def make_bucket_in_shell(server: Server) -> None:
    """No keys of the embedded server may make buckets: its administrator's shell does."""
    weed = shutil.which("weed", path=sysconfig.get_path("scripts"))
    master, filer = (f"127.0.0.1:{server.port + n}.{server.port + 10 + n}" for n in (1, 3))
    told = subprocess.run(
        [weed, f"-config_dir={server.folder}", "shell", f"-master={master}", f"-filer={filer}"],
        input=f"s3.bucket.create -name {OTHER}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"created bucket {OTHER}" in told.stdout


def session(sts, role: str) -> Keys:
    """Keys that are allowed what the policy says, and no more."""
    arn = "arn:aws:iam::000000000000:role/any"  # AWS wants one; MinIO does not look at it
    given = sts.assume_role(RoleArn=arn, RoleSessionName=role, Policy=policy(role))["Credentials"]
    return Keys(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
