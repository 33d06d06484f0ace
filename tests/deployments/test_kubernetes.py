"""deployments/k8s: valid against Kubernetes' own schemas, least rights, commands and settings that there are."""

import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from uuid import uuid4

import jsonschema
import kubernetes_validate
import pytest
import yaml
from prefect.utilities.templating import apply_values, find_placeholders


def load(name: str):
    spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


manifests = load("manifests")
FOLDER = manifests.ROOT / "deployments/k8s"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
OBJECTS = [one for path in FILES for one in yaml.safe_load_all(path.read_text())]
NAMES = {(one["kind"], one["metadata"]["name"]): one for one in OBJECTS}
WORKLOADS = {one["metadata"]["name"]: one for one in OBJECTS if "template" in one.get("spec", {})}
CONTAINERS = {
    f"{name}/{container['name']}": (workload["spec"]["template"]["spec"], container)
    for name, workload in WORKLOADS.items()
    for kind in ("initContainers", "containers")
    for container in workload["spec"]["template"]["spec"].get(kind, ())
}
VERSION = kubernetes_validate.latest_version()
POOL = json.loads((FOLDER / "work-pool.json").read_text())
each_object = pytest.mark.parametrize(
    "one", OBJECTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}"
)
each_workload = pytest.mark.parametrize("name", WORKLOADS)
each_container = pytest.mark.parametrize("name", CONTAINERS)


@each_object
def test_every_object_is_as_kubernetes_declares_it(one):
    kubernetes_validate.validate(one, VERSION, strict=True)


def test_kustomize_applies_every_file_but_the_example():
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]

    assert sorted(listed) == [path.name for path in FILES if path.name != "secrets.example.yaml"]


def test_every_object_is_in_the_namespace_which_allows_nothing_but_the_restricted():
    namespace = NAMES["Namespace", "mnemo-quant"]

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {one["metadata"].get("namespace") for one in OBJECTS if one is not namespace} == {"mnemo-quant"}


@each_workload
def test_pods_are_not_root_and_know_nothing_of_the_cluster(name):
    pod = WORKLOADS[name]["spec"]["template"]["spec"]

    assert_restricted(pod)
    assert (
        WORKLOADS[name]["spec"]["selector"]["matchLabels"]
        == WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]
    )


def assert_restricted(pod) -> None:
    """Not root, no token, no variables of services, nothing written but into volumes."""
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(manifests.OUR_USER),
        "runAsGroup": int(manifests.OUR_USER),
        "fsGroup": int(manifests.OUR_USER),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not pod["automountServiceAccountToken"]
    assert not pod["enableServiceLinks"]  # PREFECT_SERVER_PORT=tcp://... is no setting
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"].keys() == {"requests", "limits"}
        mounted = {one["mountPath"] for one in container["volumeMounts"]}
        assert mounted == {"/tmp", "/var/lib/mnemo", "/var/lib/prefect"}


@each_container
def test_containers_are_of_this_version_with_resources_and_without_rights(name):
    pod, container = CONTAINERS[name]
    claimed = {
        one["metadata"]["name"]
        for one in WORKLOADS[name.split("/")[0]]["spec"].get("volumeClaimTemplates", ())
    }
    volumes = {one["name"] for one in pod["volumes"]} | claimed

    assert container["image"] == manifests.IMAGE
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"].keys() == {"memory"}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {one["name"] for one in container["volumeMounts"]} <= volumes


@each_container
def test_every_command_is_known(name):
    _, container = CONTAINERS[name]

    manifests.check_command([*container.get("command", ["mnemo"]), *container.get("args", [])])


@pytest.mark.parametrize("name", [name for name in CONTAINERS if not name.endswith("/register")])
def test_what_runs_on_is_probed_on_a_port_that_it_names_and_listens_on(name):
    _, container = CONTAINERS[name]
    ports = {port["containerPort"] for port in container["ports"]}
    said = " ".join([*container.get("command", []), *container.get("args", [])])

    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    default = {manifests.PrefectSettings().worker.webserver.port} if "--with-healthcheck" in said else set()
    assert ports <= {int(port) for port in re.findall(r"\b\d{4}\b", said)} | default


def test_services_lead_to_pods_and_ports_that_there_are():
    for service in (one for one in OBJECTS if one["kind"] == "Service"):
        (workload,) = [
            one
            for one in WORKLOADS.values()
            if one["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]
        ]
        ports = {
            port["containerPort"]
            for container in workload["spec"]["template"]["spec"]["containers"]
            for port in container["ports"]
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_every_address_within_the_cluster_is_a_service():
    texts = [path.read_text() for path in FILES if path.name != "secrets.example.yaml"]
    found = set(re.findall(r"(?:http|tcp|dask)://([a-z][a-z-]*):(\d+)", "".join(texts)))
    there = {
        (one["metadata"]["name"], str(port["port"]))
        for one in OBJECTS
        if one["kind"] == "Service"
        for port in one["spec"]["ports"]
    }

    assert found == {("prefect-server", "4200"), ("dask-scheduler", "8786")}
    assert found <= there


def test_the_example_of_secrets_holds_none():
    secrets = [one for one in OBJECTS if one["kind"] == "Secret"]

    assert secrets
    assert not any(value for one in secrets for value in one["stringData"].values())
    assert all("data" not in one for one in secrets)


@each_container
def test_no_secret_is_written_into_a_manifest_and_every_setting_is_known(name, monkeypatch, tmp_path):
    _, container = CONTAINERS[name]
    told = {one["name"]: one["value"] for one in container.get("env", ())}
    assert not [one for one in told if manifests.SECRET_NAME.search(one)]
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            data = NAMES["ConfigMap", source["configMapRef"]["name"]]["data"]
            assert not [one for one in data if manifests.SECRET_NAME.search(one)]
            told |= data
        else:
            names = NAMES["Secret", source["secretRef"]["name"]]["stringData"]
            told |= dict.fromkeys(names, "x:y")

    manifests.check_settings(told, monkeypatch, tmp_path)


def test_what_keeps_one_volume_is_not_started_beside_itself():
    for name, workload in WORKLOADS.items():
        claims = [
            one for one in workload["spec"]["template"]["spec"]["volumes"] if "persistentVolumeClaim" in one
        ]
        if claims:
            assert workload["spec"]["strategy"] == {"type": "Recreate"}, name
            assert ("PersistentVolumeClaim", claims[0]["persistentVolumeClaim"]["claimName"]) in NAMES


def test_only_pods_of_the_namespace_reach_dask():
    policy = NAMES["NetworkPolicy", "dask"]["spec"]
    (chosen,) = policy["podSelector"]["matchExpressions"]

    assert set(chosen["values"]) == {name for name in WORKLOADS if name.startswith("dask")}
    assert policy["ingress"] == [{"from": [{"podSelector": {}}]}]


def test_every_placeholder_of_the_pool_is_a_variable_and_every_default_fits(monkeypatch):
    variables = POOL["variables"]
    jsonschema.Draft202012Validator.check_schema(variables)
    placeholders = {one.name for one in find_placeholders(POOL["job_configuration"])}
    defaults = {name: one["default"] for name, one in variables["properties"].items()}

    jsonschema.validate(defaults, variables)
    assert placeholders == set(variables["properties"])


def test_a_job_of_the_pool_is_restricted_and_valid():
    """As prefect-kubernetes fills the template in, of which it wants two fields in a place that Kubernetes has not."""
    defaults = {name: one["default"] for name, one in POOL["variables"]["properties"].items()}
    given = {
        "name": f"run-{uuid4().hex[:6]}",
        "labels": {"app": "run"},
        "command": "prefect flow-run execute",
    }
    filled = apply_values(POOL["job_configuration"], defaults | given)["job_manifest"]
    pod = filled["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["args"] = container["args"].split()
    container["env"] = [{"name": name, "value": value} for name, value in container.get("env", {}).items()]

    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    kubernetes_validate.validate(filled, VERSION, strict=True)
    assert_restricted(pod)
    assert container["image"] == manifests.IMAGE
    assert container["command"] == ["/usr/bin/env"]  # not the image's `mnemo`
    for source in container["envFrom"]:
        kind, name = (
            ("ConfigMap", source["configMapRef"])
            if "configMapRef" in source
            else ("Secret", source["secretRef"])
        )
        assert (kind, name["name"]) in NAMES
