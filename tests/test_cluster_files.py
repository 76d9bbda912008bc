"""The files of cluster/: what Kubernetes, KubeRay, Ray's launcher and Docker would say of them, and our own rules.

KubeRay's rules are those of its API reference and of its operator's validation, release 1.6 and newer.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import dockerfile
import jsonschema
import pytest
import tyro
import yaml
from kubernetes.client import ApiClient
from kubernetes.utils import parse_quantity
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pathspec import PathSpec
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config

from sgllie.enhance.settings import EnhanceSettings
from sgllie.train import settings as train_settings

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "cluster"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KUBERAY = {path.stem: yaml.safe_load(path.read_text()) for path in CLUSTER.glob("ray[cj]*.yaml")}
AWS = yaml.safe_load((CLUSTER / "ray-up-aws.yaml").read_text())
DOCKERFILE = dockerfile.parse_file(str(CLUSTER / "Dockerfile"))
README = (CLUSTER / "README.md").read_text()

TEXT, WHOLE, YES_NO, ANY = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}, {}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def fields(required: str, **properties: object) -> dict[str, object]:
    """Schema of an object that has these fields and no others; Kubernetes drops unknown ones without a word."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


GROUP = {"template": ANY, "rayStartParams": TEXTS, "resources": TEXTS, "labels": TEXTS}
CLUSTER_SPEC = fields(
    "rayVersion authOptions headGroupSpec workerGroupSpecs",
    rayVersion=TEXT,
    authOptions=fields("mode", mode={"enum": ["token"]}, secretName=TEXT),
    enableInTreeAutoscaling=YES_NO,
    autoscalerOptions=fields("", idleTimeoutSeconds=WHOLE, upscalingMode={"enum": ["Default", "Conservative"]}),
    headGroupSpec=fields("template serviceType", serviceType={"enum": ["ClusterIP"]}, **GROUP),
    workerGroupSpecs={
        "type": "array",
        "minItems": 1,
        "items": fields(
            "groupName template replicas minReplicas maxReplicas",
            groupName=TEXT,
            replicas=WHOLE,
            minReplicas=WHOLE,
            maxReplicas={"type": "integer", "minimum": 1},
            idleTimeoutSeconds=WHOLE,
            **GROUP,
        ),
    },
)
JOB_SPEC = fields(
    "entrypoint rayClusterSpec shutdownAfterJobFinishes",
    entrypoint=TEXT,
    rayClusterSpec=CLUSTER_SPEC,
    shutdownAfterJobFinishes={"enum": [True]},
    ttlSecondsAfterFinished=WHOLE,
    backoffLimit=WHOLE,
    activeDeadlineSeconds=WHOLE,
)
SPECS = {"RayCluster": CLUSTER_SPEC, "RayJob": JOB_SPEC}


def cluster_of(resource: dict) -> dict:
    """The part of a resource that describes the Ray cluster."""
    return resource["spec"]["rayClusterSpec"] if resource["kind"] == "RayJob" else resource["spec"]


def groups_of(resource: dict) -> list[dict]:
    """Head and workers."""
    cluster = cluster_of(resource)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def container_of(group: dict) -> dict:
    """The one container of a group's pods."""
    (container,) = group["template"]["spec"]["containers"]
    return container


def limit(group: dict, resource: str) -> int:
    """How much of a resource each pod of a group may take."""
    return int(parse_quantity(container_of(group)["resources"]["limits"].get(resource, 0)))


def pins() -> dict[str, Version]:
    """The versions in constraints.txt."""
    lines = [line for line in (CLUSTER / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {name: Version(version) for name, version in (line.split("==") for line in lines)}


def test_every_resource_is_read():
    assert set(KUBERAY) == {"rayjob-enhance", "rayjob-train", "raycluster"}


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_would_accept_it(name):
    resource = KUBERAY[name]
    assert resource["apiVersion"] == "ray.io/v1"
    jsonschema.validate(resource, fields("metadata spec", apiVersion=TEXT, kind=TEXT, metadata=ANY, spec=ANY))
    jsonschema.validate(resource["spec"], SPECS[resource["kind"]])
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", resource["metadata"]["name"])
    cluster = cluster_of(resource)
    assert cluster["rayVersion"] == str(pins()["ray"])
    names = [group["groupName"] for group in cluster["workerGroupSpecs"]]
    assert len(set(names)) == len(names)
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        # Without an autoscaler nothing would ever start more than `replicas`.
        assert cluster.get("enableInTreeAutoscaling") or group["replicas"] == group["maxReplicas"]
    for group in groups_of(resource):
        assert "restartPolicy" not in group["template"]["spec"], "the autoscaler sets it"


@pytest.mark.parametrize("name", KUBERAY)
def test_kubernetes_knows_every_field_of_the_pods(name):
    """Reading a pod into Kubernetes' own model drops what the model does not have."""
    for group in groups_of(KUBERAY[name]):
        client, template = ApiClient(), group["template"]
        model = client.deserialize(json.dumps(template), "V1PodTemplateSpec", "application/json")
        assert client.sanitize_for_serialization(model) == template
        resources = container_of(group)["resources"]
        for amounts in resources.values():
            assert all(parse_quantity(amount) > 0 for amount in amounts.values())
        # Ray counts limits; more than was requested may not be there.
        assert resources["requests"] == resources["limits"]


@pytest.mark.parametrize("name", KUBERAY)
def test_pods_are_harmless_and_hold_no_secret(name):
    user = next(int(command.value[0]) for command in reversed(DOCKERFILE) if command.cmd == "USER")
    for group in groups_of(KUBERAY[name]):
        pod, container = group["template"]["spec"], container_of(group)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == user
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["serviceAccountName"] == "sgllie"
        assert container["envFrom"] == [{"secretRef": {"name": "sgllie-s3", "optional": True}}]
        assert "env" not in container
        device = "cuda" if limit(group, "nvidia.com/gpu") else "cpu"
        assert container["image"].endswith(f"/sgllie:{PROJECT['version']}-{device}")


def test_enhancing_asks_for_the_workers_there_may_be():
    """With none at the start, the job would count no processor at all."""
    command, name, *arguments = shlex.split(KUBERAY["rayjob-enhance"]["spec"]["entrypoint"])
    assert (command, name) == ("sgllie", "enhance")
    settings = tyro.cli(EnhanceSettings, args=arguments)
    workers = cluster_of(KUBERAY["rayjob-enhance"])["workerGroupSpecs"]
    assert settings.num_actors == sum(group["maxReplicas"] * limit(group, "cpu") for group in workers)
    assert settings.device == "cpu"


def test_training_fits_its_cluster():
    command, name, *arguments = shlex.split(KUBERAY["rayjob-train"]["spec"]["entrypoint"])
    assert (command, name) == ("sgllie", "train")
    settings = train_settings.parse(arguments)
    (group,) = cluster_of(KUBERAY["rayjob-train"])["workerGroupSpecs"]
    assert settings.use_gpu
    assert settings.num_workers == group["replicas"] * limit(group, "nvidia.com/gpu")
    assert settings.cpus_per_worker * settings.num_workers <= group["replicas"] * limit(group, "cpu")


def test_the_cluster_that_stays_has_both_kinds_of_workers():
    workers = cluster_of(KUBERAY["raycluster"])["workerGroupSpecs"]
    assert [bool(limit(group, "nvidia.com/gpu")) for group in workers] == [False, True]
    assert all(group["minReplicas"] == 0 for group in workers)


def test_ray_up_would_accept_it():
    """Ray's schema, and its check of what comes of it with its defaults."""
    validate_config(prepare_config(AWS))


def test_aws_lets_nobody_in():
    merged = prepare_config(AWS)
    assert AWS["provider"]["security_group"] == {"GroupName": "sgllie"}
    assert AWS["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    (head,) = [command for command in merged["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in head
    starts = [*merged["head_start_ray_commands"], *merged["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)
    assert "0.0.0.0" not in json.dumps(merged)


def test_aws_workers_are_spot_and_go():
    types = AWS["available_node_types"]
    workers = [node for name, node in types.items() if name != AWS["head_node_type"]]
    assert all(node["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"} for node in workers)
    assert all(node["min_workers"] == 0 for node in workers)
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert 0 < AWS["idle_timeout_minutes"] <= 10
    assert AWS["provider"]["cache_stopped_nodes"] is False
    # Only the head may start machines.
    profiles = {name: node["node_config"]["IamInstanceProfile"]["Name"] for name, node in types.items()}
    assert profiles == {"head": "sgllie-head", "cpu": "sgllie-worker", "gpu": "sgllie-worker"}
    images = {node["node_config"]["ImageId"] for node in types.values()}
    assert images == {"ami-cpu", "ami-gpu"}
    assert all(f"s/{image}/" in README for image in images), "README.md says how to fill them in"


def test_aws_commands_are_shell_and_their_files_exist():
    merged = prepare_config(AWS)
    commands = [command for key, value in merged.items() if key.endswith("_commands") for command in value]
    assert commands
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
        assert "anaconda" not in command, "one of Ray's defaults is left"
    mounted = [local for local in AWS["file_mounts"].values() if not local.startswith("~")]
    assert mounted
    assert all((ROOT / local).is_file() for local in mounted)


def test_constraints_hold_every_dependency():
    """To renew: the command at the top of constraints.txt."""
    found = pins()
    for requirement in map(Requirement, PROJECT["dependencies"]):
        name = canonicalize_name(requirement.name)
        assert name in found, requirement
        assert requirement.specifier.contains(found[name]), requirement


def test_images_and_machines_are_installed_by_the_same_uv():
    files = (CLUSTER / name for name in ("Dockerfile", "ray-up-aws.yaml"))
    assert len({version for file in files for version in re.findall(r"\buv==(\S+)", file.read_text())}) == 1


def test_hadolint_has_nothing_to_say_of_the_dockerfile():
    linter = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([linter, CLUSTER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_image_is_pinned_and_not_root():
    values = {}
    for command in DOCKERFILE:
        values.setdefault(command.cmd.upper(), []).append(command.value)
    assert [value[0] for value in values["ARG"]] == ["BASE=python:3.11.14-slim-bookworm", "DEVICE=cpu"]
    assert {value[0] for value in values["FROM"]} == {"${BASE}"}
    assert DOCKERFILE[-1].cmd.upper() == "CMD"
    assert values["USER"] == [("1000",)]
    given = [name for value in values["ENV"] for name in value[::2]]
    assert not [name for name in given if re.search("KEY|SECRET|PASSWORD|TOKEN", name)]
    assert dict(zip(given, values["ENV"][0][1::2], strict=True))["RAY_AUTH_MODE"] == "token"


def test_the_image_is_made_of_files_that_docker_is_sent():
    sent = PathSpec.from_lines("gitignore", (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines())
    copies = [command for command in DOCKERFILE if command.cmd.upper() == "COPY" and not command.flags]
    sources = [source for command in copies for source in command.value[:-1]]
    assert "sgllie" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not sent.match_file(source), f"{source} is left out by Dockerfile.dockerignore"
    assert sent.match_file(".git/config")


@pytest.mark.parametrize("device", ["cpu", "cuda", "tpu"])
def test_the_build_argument_chooses_the_packages(device, tmp_path):
    """The step runs in a shell as Docker would run it, with a `uv` that only says how it was called."""
    (step,) = [
        command.value[0] for command in DOCKERFILE if command.cmd.upper() == "RUN" and "DEVICE" in command.value[0]
    ]
    (tmp_path / "uv").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "uv").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DEVICE": device}
    result = subprocess.run(["sh", "-c", step], env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == (device != "tpu")
    assert ("--torch-backend=cpu" in result.stdout) == (device == "cpu")
    assert ("must be cpu or cuda" in result.stderr) == (device == "tpu")


def test_what_a_job_takes_along_is_small(tmp_path):
    """A copy of the checkout with the litter of a year, packed as `ray job submit --working-dir .` packs it."""
    checkout, package = tmp_path / "checkout", tmp_path / "package.zip"
    for name in ("sgllie", "jobs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", ".partial"))
    for name in (".rayignore", ".gitignore", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    for name in (
        "photographs/a.jpg",
        "out/images/a.jpg",
        ".venv/bin/python",
        ".git/config",
        ".idea/x",
        "tests/test.py",
    ):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(bytes(1000))
    create_package(str(checkout), package, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(package, unpacked)
    assert {path.name for path in unpacked.iterdir()} == {"sgllie", "jobs"}
    assert (unpacked / "sgllie/network/pretrained/sgllie.safetensors").is_file()
    assert (unpacked / "jobs/enhance.py").is_file()
    assert package.stat().st_size < 2**21
