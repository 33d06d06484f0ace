"""deployments/ecs: prefect-aws makes a task of it that AWS' own description of ECS allows; keys come by ARN."""

import asyncio
import json
import re
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import boto3
import jsonschema
import pytest
from moto import mock_aws
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.utilities.templating import apply_values, find_placeholders
from prefect_aws import AwsCredentials
from prefect_aws.workers.ecs_worker import ECSJobConfiguration, ECSWorker

from lakehouse.settings import load_settings

REGION = "eu-central-1"
TEXT = (Path(__file__).parents[2] / "deployments/ecs/work-pool.json").read_text()
POOL = json.loads(TEXT.replace("MY_ACCOUNT", "123456789012").replace("MY_REGION", REGION))
AUTH = "user:planted-password"


@pytest.fixture(scope="module")
def task():
    """The task that the worker starts for a run, and its definition, as AWS has taken them."""
    set_at_worker = {PREFECT_API_AUTH_STRING: AUTH, PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(set_at_worker), mock_aws():
        credentials = AwsCredentials(aws_access_key_id="a", aws_secret_access_key="b", region_name=REGION)
        ecs = boto3.client("ecs", REGION, aws_access_key_id="a", aws_secret_access_key="b")
        ecs.create_cluster(clusterName="mnemo-quant")
        asyncio.run(start(credentials))
        (arn,) = ecs.list_tasks(cluster="mnemo-quant")["taskArns"]
        (found,) = ecs.describe_tasks(cluster="mnemo-quant", tasks=[arn])["tasks"]
        defined = ecs.describe_task_definition(taskDefinition=found["taskDefinitionArn"])["taskDefinition"]
        yield found, defined


async def start(credentials: AwsCredentials) -> None:
    """As a worker does, but that a server would resolve blocks and variables first, of which there are none."""
    run = FlowRun(id=uuid4(), flow_id=uuid4(), name="a-run")
    said = {name: one.get("default") for name, one in POOL["variables"]["properties"].items()}
    values = {name: value for name, value in said.items() if value is not None}
    filled = apply_values(POOL["job_configuration"], values | {"aws_credentials": credentials})
    configuration = ECSJobConfiguration(**filled)
    configuration.prepare_for_flow_run(run)
    await ECSWorker(work_pool_name="mnemo").run(run, configuration)


def test_the_task_is_of_this_version_with_resources_roles_and_logs(task):
    found, defined = task
    (container,) = defined["containerDefinitions"]

    assert container["image"].endswith(f"/mnemo-quant:{version('mnemo-quant')}")
    assert (defined["cpu"], defined["memory"]) == ("1024", "4096")
    assert defined["networkMode"] == "awsvpc"
    assert defined["requiresCompatibilities"] == ["FARGATE"]
    assert defined["taskRoleArn"].endswith(":role/mnemo-quant-task")
    assert defined["executionRoleArn"].endswith(":role/mnemo-quant-execution")
    assert container["logConfiguration"]["logDriver"] == "awslogs"
    assert found["launchType"] == "FARGATE"


def test_the_container_is_not_root_and_runs_what_the_worker_says(task):
    found, defined = task
    (container,) = defined["containerDefinitions"]
    (override,) = found["overrides"]["containerOverrides"]

    assert container["user"] == "10001:10001"
    assert container["entryPoint"] == ["/usr/bin/env"]  # not the image's `mnemo`
    assert override["command"][0] in {"prefect", "python"}


def test_keys_come_from_secrets_manager_by_arn_and_are_in_no_variable(task, monkeypatch, tmp_path):
    found, defined = task
    (container,) = defined["containerDefinitions"]
    keys = {one["name"]: one["valueFrom"] for one in container["secrets"]}

    assert {"MNEMO_S3_ACCESS_KEY", "MNEMO_S3_SECRET_KEY", "PREFECT_API_AUTH_STRING"} <= set(keys)
    for name, arn in keys.items():
        assert re.fullmatch(rf"arn:aws:secretsmanager:{REGION}:\d+:secret:[\w/-]+(:{name}::)?", arn)
    assert AUTH not in json.dumps([found, defined], default=str)
    monkeypatch.chdir(tmp_path)
    for name in keys:
        monkeypatch.setenv(name, "x")
    for one in container["environment"]:
        monkeypatch.setenv(one["name"], one["value"])
    assert load_settings().lake == "s3://my-lake/mnemo"


def test_every_placeholder_is_a_variable_and_every_default_fits():
    variables = POOL["variables"]
    jsonschema.Draft202012Validator.check_schema(variables)
    defaults = {name: one["default"] for name, one in variables["properties"].items() if "default" in one}

    jsonschema.validate(defaults, variables)
    assert {one.name for one in find_placeholders(POOL["job_configuration"])} <= set(variables["properties"])


def test_the_template_is_that_of_the_installed_prefect_aws():
    """What a newer worker asks of its pool must be here too."""
    theirs = ECSWorker.get_default_base_job_template()

    assert set(theirs["job_configuration"]) == set(POOL["job_configuration"])
    assert set(theirs["variables"]["properties"]) <= set(POOL["variables"]["properties"])
