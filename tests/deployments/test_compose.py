"""deployments/compose and the image: all that can be known without an engine."""

import json
import re
import shutil
import socket
import subprocess
import tomllib
import urllib.request
from dataclasses import fields
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
import yaml
from packaging.specifiers import SpecifierSet
from prometheus_client.parser import text_string_to_metric_families

from lakehouse.ops import METRICS
from lakehouse.settings import Settings
from sources.recorder.metrics import metrics
from sources.recorder.recording import Pulse
from tasks.prometheus import expose


def load(name: str):
    spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


manifests = load("manifests")
FOLDER = manifests.ROOT / "deployments/compose"
TEXT = (FOLDER / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
PROJECT = tomllib.loads((manifests.ROOT / "pyproject.toml").read_text())
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
EXAMPLE = {
    line.partition("=")[0]: line.partition("=")[2]
    for line in (FOLDER / "env.example").read_text().splitlines()
    if "=" in line and not line.startswith("#")
}
DOCKERFILE = (manifests.ROOT / "deployments/Dockerfile").read_text()
DASHBOARD = json.loads((FOLDER / "grafana/mnemo.json").read_text())
OURS = [name for name, service in SERVICES.items() if service["image"] == manifests.IMAGE]
each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


@each_service
def test_every_image_is_pinned_to_a_version(name):
    tag = SERVICES[name]["image"].rpartition(":")[2]

    assert re.search(r"\d+\.\d+|\d{4}-\d{2}-\d{2}T", tag)
    assert SERVICES[name]["image"] == manifests.IMAGE or "build" not in SERVICES[name]


@each_service
def test_no_service_is_root_or_may_become_it(name):
    service = SERVICES[name]

    assert service["user"].split(":")[0] not in {"0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "pid", "network_mode", "devices"}


def test_no_password_has_a_default():
    for name, sign, said in VARIABLE.findall(TEXT):
        assert sign == "?" or (name.endswith("_API_KEY") and sign == "-" and not said), name
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if manifests.SECRET_NAME.search(name):
                assert VARIABLE.search(value), name
    assert not any(EXAMPLE.values())


def test_the_example_names_the_variables_of_the_file_and_no_others():
    assert set(EXAMPLE) == {name for name, _, _ in VARIABLE.findall(TEXT)}


@each_of_ours
def test_every_setting_of_our_services_is_known(name, monkeypatch, tmp_path):
    told = SERVICES[name].get("environment", {})
    filled = {one: VARIABLE.sub("a:b" if "AUTH" in one else "x", value) for one, value in told.items()}

    manifests.check_settings(filled, monkeypatch, tmp_path)


@each_of_ours
def test_every_command_of_our_services_is_known(name):
    service = SERVICES[name]
    if service.get("entrypoint") == ["true"]:
        return

    manifests.check_command([*service.get("entrypoint", ["mnemo"]), *service.get("command", [])])
    if "healthcheck" in service:
        manifests.check_command(service["healthcheck"]["test"][1:])


@each_of_ours
def test_our_services_write_into_volumes_and_memory_only(name):
    service = SERVICES[name]
    mounted = {volume.split(":")[1] for volume in service.get("volumes", ())}

    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"]
    assert mounted <= {"/var/lib/mnemo", "/var/lib/prefect", "/var/lib/minio"}


def test_what_runs_on_says_whether_it_is_well_and_what_ends_is_not_started_again():
    for name, service in SERVICES.items():
        restarts = service.get("restart", "no")
        assert (restarts == "unless-stopped") == ("healthcheck" in service), name


def test_services_wait_for_others_in_a_way_that_those_can_answer():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            is_lasting = "healthcheck" in SERVICES[other]
            wanted = "service_healthy" if is_lasting else "service_completed_successfully"
            assert how["condition"] == wanted, f"{name} waits for {other}"
            assert name not in ancestors(other), f"{name} and {other} wait for each other"


def ancestors(name: str) -> set[str]:
    direct = set(SERVICES[name].get("depends_on", {}))
    return direct.union(*(ancestors(one) for one in direct))


def test_volumes_are_declared_and_bound_files_are_there_and_read_only():
    named = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            if isinstance(volume, dict):
                named.add(volume["source"])
                continue
            source, _, *mode = volume.split(":")
            if source.startswith("."):
                assert (FOLDER / source).exists()
                assert mode == ["ro"]
            else:
                named.add(source)

    assert named == set(COMPOSE["volumes"])


def test_ports_are_published_on_loopback_and_once():
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "healthcheck" in service])
def test_a_health_check_asks_a_port_that_the_service_listens_on(name):
    asked = {manifests.port_of(url) for url in manifests.urls_in(SERVICES[name]["healthcheck"]["test"])}

    assert asked <= listening(name)
    assert asked or name == "postgres"


def listening(name: str) -> set[int]:
    """The ports that a service is told to listen on, and those that it has by default."""
    service = SERVICES[name]
    defaults = {"minio": 9000, "prometheus": 9090, "grafana": 3000, "node-exporter": 9100, "postgres": 5432}
    if "--with-healthcheck" in service.get("entrypoint", ()):
        return {manifests.PrefectSettings().worker.webserver.port}
    said = [*service.get("entrypoint", []), *service.get("command", [])]
    told = {int(value) for option, value in pairwise(said) if option.endswith("port")}
    return told | ({defaults[name]} if name in defaults else set())


def test_addresses_between_services_name_a_service_and_a_port_of_it():
    provisioned = (FOLDER / "grafana/datasource.yaml").read_text() + (FOLDER / "prometheus.yml").read_text()
    found = re.findall(r"(?:@|//|\")([a-z][a-z-]*):(\d+)\b", TEXT + provisioned)

    assert {name for name, _ in found} == {
        "minio", "prefect-server", "postgres", "prometheus", "recorder", "node-exporter"
    }  # fmt: skip
    for name, port in found:
        assert int(port) in listening(name)


def test_every_part_is_asked_for_its_metrics():
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]

    assert {
        target.split(":")[0] for job in jobs for one in job["static_configs"] for target in one["targets"]
    } == {
        "recorder",
        "node-exporter",
    }


def test_runs_write_their_figures_where_the_exporter_reads_them():
    (source, mounted, _mode) = SERVICES["node-exporter"]["volumes"][0].split(":")
    read = next(one for one in SERVICES["node-exporter"]["command"] if "directory" in one).partition("=")[2]
    written = Path(SERVICES["worker"]["environment"]["MNEMO_METRICS_FILE"])

    assert f"{source}:/var/lib/mnemo" in SERVICES["worker"]["volumes"]
    assert written.parent.relative_to("/var/lib/mnemo") == Path(read).relative_to(mounted)
    assert written.suffix == ".prom"


def test_the_dashboard_is_where_grafana_looks_and_asks_the_source_that_there_is():
    (provider,) = yaml.safe_load((FOLDER / "grafana/dashboards.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((FOLDER / "grafana/datasource.yaml").read_text())["datasources"]

    assert (
        f"./grafana/mnemo.json:{provider['options']['path']}/mnemo.json:ro" in SERVICES["grafana"]["volumes"]
    )
    assert set(re.findall(r'"uid": "(\w+)"', json.dumps(DASHBOARD["panels"]))) == {source["uid"]}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory) -> dict[str, set[str]]:
    """Every metric that the code exposes, with its labels; read from what it really answers and writes."""
    pulse = Pulse(**{one.name: 0 for one in fields(Pulse)} | {"stream": "kraken", "at": datetime.now(UTC)})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with metrics(lambda: pulse, "127.0.0.1", port):
        answered = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    file = tmp_path_factory.mktemp("metrics") / "mnemo.prom"
    row = {name: 1 if dtype.is_numeric() else None for name, dtype in METRICS.schema.items()}
    told = {"table": "silver.trades", "subject": "", "recorded_at": datetime.now(UTC)}
    rows = [row | told | {"kind": kind} for kind in METRICS.column("kind").values]
    expose(pl.DataFrame(rows, schema=METRICS.schema), Settings(metrics_file=file))
    families = text_string_to_metric_families(answered + file.read_text())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def test_the_dashboard_shows_metrics_that_our_code_exposes_and_no_others(exposed):
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    asked += [one["query"]["query"] for one in DASHBOARD["templating"]["list"]]

    assert asked
    for query in asked:
        names = re.findall(r"mnemo_\w+", query)
        assert names
        for name in names:
            assert name in exposed, f"{name} is not exposed; there is {', '.join(sorted(exposed))}"
            wanted = set(re.findall(r"(\w+)=~?\"", query)) | set(
                re.findall(r"label_values\(\w+, (\w+)\)", query)
            )
            assert wanted <= exposed[name], query


def test_the_dashboard_covers_recorders_promotions_latencies_and_the_gate(exposed):
    asked = set(re.findall(r"mnemo_\w+", json.dumps(DASHBOARD)))

    assert asked >= {
        "mnemo_stream_landing_lag_s",
        "mnemo_stream_frames_total",
        "mnemo_stream_durable_s",
        "mnemo_stream_invalid",
        "mnemo_promotion_new_rows",
        "mnemo_promotion_held_rows",
        "mnemo_promotion_gate_cpu_seconds",
        "mnemo_latency_seconds",
    }
    assert set(re.findall(r'hop=\\"(\w+)\\"', json.dumps(DASHBOARD))) == {
        "event_to_received",
        "received_to_published",
        "input_to_published",
    }


def test_the_script_that_sets_the_store_up_is_a_shell_script_with_all_its_variables():
    script = FOLDER / "store-setup.sh"
    told = set(SERVICES["store-setup"]["environment"])

    subprocess.run(["sh", "-n", script], check=True)
    used = set(re.findall(r'"\$([A-Z][A-Z_]+)"', script.read_text()))
    assert used <= told
    assert told - used == {"MC_CONFIG_DIR"}


@pytest.mark.skipif(not shutil.which("docker"), reason="no docker client")
def test_compose_itself_finds_nothing_wrong():
    compose = ["docker", "compose"]
    if subprocess.run([*compose, "version"], capture_output=True, check=False).returncode:
        pytest.skip("the docker client has no compose plugin")
    filled = {"PATH": "/usr/bin:/bin:/usr/local/bin", **dict.fromkeys(EXAMPLE, "x")}

    subprocess.run([*compose, "--project-directory", FOLDER, "config", "--quiet"], env=filled, check=True)


def test_the_image_is_of_a_python_that_the_package_wants_and_not_root():
    stages = re.findall(r"^FROM python:(\d+\.\d+\.\d+)-slim-bookworm", DOCKERFILE, re.MULTILINE)

    assert len(set(stages)) == 1
    assert stages[0] in SpecifierSet(PROJECT["project"]["requires-python"])
    assert re.findall(r"^USER (\d+)", DOCKERFILE, re.MULTILINE) == [manifests.OUR_USER]
    assert {SERVICES[name]["user"].split(":")[0] for name in OURS} == {manifests.OUR_USER}


def test_what_the_image_is_built_of_is_there_and_reaches_the_build():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    files = {name for line in copied for name in line.split()} - {"."}
    ignore = manifests.ROOT / "deployments/Dockerfile.dockerignore"
    allowed = {line[1:] for line in ignore.read_text().splitlines() if line.startswith("!")}
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel.get("force-include", {}), *PROJECT["project"]["license-files"]}

    assert all((manifests.ROOT / name).exists() for name in files | allowed)
    assert files | needed | {PROJECT["project"]["readme"]} <= allowed


def test_the_image_installs_what_extras_there_are_and_its_tag_is_the_version():
    assert set(re.findall(r"--extra (\w+)", DOCKERFILE)) == set(PROJECT["project"]["optional-dependencies"])
    assert f"-t {manifests.IMAGE} " in DOCKERFILE
    assert manifests.IMAGE.endswith(f":{PROJECT['project']['version']}")


def test_the_image_sets_settings_that_there_are(monkeypatch, tmp_path):
    (said,) = re.findall(r"^ENV (PATH=(?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    told = dict(pair.split("=", 1) for pair in said.replace("\\\n", " ").split())

    manifests.check_settings(
        {n: v for n, v in told.items() if n not in {"PATH", "HOME"}}, monkeypatch, tmp_path
    )
