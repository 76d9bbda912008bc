"""The files of cluster/ for Kubernetes: what Kubernetes and KubeRay would say of them, and what a platform asks for."""

import copy
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import tyro
import yaml
from click.testing import CliRunner
from kubernetes.client import ApiClient
from ray._private.ray_constants import RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
from ray.dashboard.modules.job import cli as ray_job
from test_cluster_files import DOCKERFILE, pins

from kuberay import CLUSTER, DOCUMENTS, KUBERAY, PLAIN, SCHEMAS, Resource, cluster_of, groups_of, limit, pods_of
from network_policies import Peer, connects
from pod_security import RULES, broken_rules
from sgllie.enhance.settings import EnhanceSettings
from sgllie.train import settings as train_settings

pytestmark = pytest.mark.jobs

README = (CLUSTER / "README.md").read_text()
POLICIES = [one for one in PLAIN if one["kind"] == "NetworkPolicy"]
PODS = [
    pytest.param(resource, pod, id=f"{name}-{pod}") for name, resource in KUBERAY.items() for pod in pods_of(resource)
]


def is_whole(kind: str, document: Resource) -> bool:
    """Tell whether Kubernetes' own model of a kind has every field; reading into it drops what it does not have."""
    client = ApiClient()
    model = client.deserialize(json.dumps(document), f"V1{kind}", "application/json")
    return client.sanitize_for_serialization(model) == document


def test_every_file_is_read():
    assert set(DOCUMENTS) == {"namespace", "rayjob-enhance", "rayjob-train", "raycluster"}
    assert set(KUBERAY) == set(DOCUMENTS) - {"namespace"}


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_would_accept_it(name):
    resource = KUBERAY[name]
    jsonschema.validate(resource, SCHEMAS[resource["kind"]])
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


@pytest.mark.parametrize(("resource", "pod"), PODS)
def test_kubernetes_knows_every_field_of_the_pods(resource, pod):
    assert is_whole("PodTemplateSpec", pods_of(resource)[pod])


@pytest.mark.parametrize("document", PLAIN, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_knows_every_field_of_the_rest(document):
    assert is_whole(document["kind"], document)
    assert not is_whole(document["kind"], document | {"specs": {}})


def test_all_is_in_the_namespace():
    """A policy that denies all would be a disaster in another one."""
    (namespace,) = [one for one in PLAIN if one["kind"] == "Namespace"]
    levels = namespace["metadata"]["labels"]
    assert levels["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [one for one in (*KUBERAY.values(), *PLAIN) if one is not namespace]
    assert {one["metadata"]["namespace"] for one in others} == {namespace["metadata"]["name"]}


@pytest.mark.parametrize(("resource", "pod"), PODS)
def test_the_namespace_admits_the_pods(resource, pod):
    assert broken_rules(pods_of(resource)[pod]["spec"]) == []


CONTAINER, WHOLE_POD = ("containers", 0), ("securityContext",)
BREAKS: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "HostProcess": ((*WHOLE_POD, "windowsOptions"), {"hostProcess": True}),
    "Host Namespaces": (("hostNetwork",), True),
    "Privileged Containers": ((*CONTAINER, "securityContext", "privileged"), True),
    "Capabilities": ((*CONTAINER, "securityContext", "capabilities"), {"drop": ["ALL"], "add": ["SYS_PTRACE"]}),
    "Volume Types": (("volumes",), [{"name": "host", "hostPath": {"path": "/"}}]),
    "Host Ports": ((*CONTAINER, "ports"), [{"containerPort": 8265, "hostPort": 8265}]),
    "Host Probes / Lifecycle Hooks": ((*CONTAINER, "livenessProbe"), {"httpGet": {"port": 80, "host": "10.0.0.1"}}),
    "AppArmor": ((*WHOLE_POD, "appArmorProfile"), {"type": "Unconfined"}),
    "SELinux": ((*WHOLE_POD, "seLinuxOptions"), {"type": "spc_t"}),
    "/proc Mount Type": ((*CONTAINER, "securityContext", "procMount"), "Unmasked"),
    "Seccomp": ((*CONTAINER, "securityContext", "seccompProfile"), {"type": "Unconfined"}),
    "Sysctls": ((*WHOLE_POD, "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
    "Privilege Escalation": ((*CONTAINER, "securityContext", "allowPrivilegeEscalation"), None),
    "Running as Non-root": ((*CONTAINER, "securityContext", "runAsNonRoot"), False),
    "Running as Non-root user": ((*CONTAINER, "securityContext", "runAsUser"), 0),
}
"""For each rule, a value at a place of the enhancement's head that breaks this one and no other."""


@pytest.mark.parametrize("rule", RULES)
def test_a_pod_that_breaks_a_rule_is_refused(rule):
    *path, last = BREAKS[rule][0]
    pod = pods_of(KUBERAY["rayjob-enhance"])["head"]["spec"]
    place: Any = pod
    for step in path:
        place = place[step]
    place[last] = BREAKS[rule][1]
    assert broken_rules(pod) == [rule]


@pytest.mark.parametrize("missing", ["autoscalerOptions", "submitterPodTemplate"])
def test_what_kuberay_adds_by_itself_would_be_refused(missing):
    """Its autoscaler and its submitter come without a security context."""
    resource = copy.deepcopy(KUBERAY["rayjob-enhance"])
    (resource["spec"] if missing in resource["spec"] else cluster_of(resource)).pop(missing)
    pod = "head" if missing == "autoscalerOptions" else "submitter"
    assert {"Capabilities", "Privilege Escalation"} <= set(broken_rules(pods_of(resource)[pod]["spec"]))


def autoscales(pod: Resource) -> bool:
    """Tell whether a pod has KubeRay's autoscaler."""
    return "autoscaler" in [container["name"] for container in pod["spec"]["containers"]]


def holders_of_token(pod: Resource) -> set[str]:
    """Return the containers that a token of the pod's account is mounted in."""
    spec = pod["spec"]
    if spec.get("automountServiceAccountToken") is not False:
        return {container["name"] for container in spec["containers"]}
    tokens = {volume["name"] for volume in spec.get("volumes", ()) if "serviceAccountToken" in json.dumps(volume)}
    return {
        container["name"]
        for container in spec["containers"]
        if tokens & {mount["name"] for mount in container.get("volumeMounts", ())}
    }


def resources_of(pod: Resource) -> list[tuple[Resource, Resource]]:
    """Return requests and limits of each container."""
    found = [container.get("resources", {}) for container in pod["spec"]["containers"]]
    return [(one.get("requests", {}), one.get("limits", {})) for one in found]


def is_budgeted(pod: Resource) -> bool:
    """Tell whether a budget keeps a pod that is the only one of its labels from being evicted."""
    labels = pod["metadata"]["labels"].items()
    mine = [one["spec"] for one in PLAIN if one["kind"] == "PodDisruptionBudget"]
    return [one["minAvailable"] for one in mine if one["selector"]["matchLabels"].items() <= labels] == [1]


def stays(pod: Resource) -> bool:
    """Tell whether the cluster autoscaler and Karpenter leave a pod's node in place."""
    notes = pod["metadata"].get("annotations", {})
    told = notes.get("cluster-autoscaler.kubernetes.io/safe-to-evict"), notes.get("karpenter.sh/do-not-disrupt")
    return told == ("false", "true")


def role(pod: Resource) -> str:
    """Return what a pod is: head, worker or submitter."""
    return pod["metadata"]["labels"].get("ray.io/node-type", "submitter")


# Ray lets work end for so long after SIGTERM, and then needs a few seconds for itself.
GRACE = RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S + 10
DEMANDS: dict[str, Callable[[Resource], bool]] = {
    "account": lambda pod: (
        pod["spec"].get("serviceAccountName") == ("sgllie-autoscaler" if autoscales(pod) else "sgllie")
    ),
    "token": lambda pod: holders_of_token(pod) == ({"autoscaler"} if autoscales(pod) else set()),
    "grace": lambda pod: role(pod) != "worker" or pod["spec"].get("terminationGracePeriodSeconds", 30) >= GRACE,
    # Ray counts limits; more than was requested may not be there.
    "requests": lambda pod: all(requests == limits for requests, limits in resources_of(pod)),
    "limits": lambda pod: all(
        {"cpu", "memory", "ephemeral-storage"} <= limits.keys() for _, limits in resources_of(pod)
    ),
    "image": lambda pod: all(
        re.fullmatch(r"[^@:]+@sha256:[0-9a-f]{64}", container["image"]) for container in pod["spec"]["containers"]
    ),
    "node": lambda pod: role(pod) == "worker" or stays(pod),
    "budget": lambda pod: role(pod) != "head" or is_budgeted(pod),
}
"""What a platform asks of a pod, besides Pod Security."""


def unmet(pods: dict[str, Resource]) -> set[str]:
    """Return the names of the demands that one of the pods does not meet."""
    return {name for name, is_met in DEMANDS.items() if not all(is_met(pod) for pod in pods.values())}


@pytest.mark.parametrize("name", KUBERAY)
def test_a_platform_would_have_it(name):
    assert unmet(pods_of(KUBERAY[name])) == set()


SPOILED: dict[str, Callable[[dict[str, Resource]], Any]] = {
    "account": lambda pods: pods["cpu"]["spec"].update(serviceAccountName="sgllie-autoscaler"),
    "token": lambda pods: pods["cpu"]["spec"].pop("automountServiceAccountToken"),
    "grace": lambda pods: pods["cpu"]["spec"].pop("terminationGracePeriodSeconds"),
    "requests": lambda pods: pods["cpu"]["spec"]["containers"][0]["resources"]["requests"].pop("ephemeral-storage"),
    "limits": lambda pods: pods["head"]["spec"]["containers"][1]["resources"].clear(),
    "image": lambda pods: pods["submitter"]["spec"]["containers"][0].update(image="registry.example.com/sgllie:0.1.0"),
    "node": lambda pods: pods["head"]["metadata"]["annotations"].popitem(),
    "budget": lambda pods: pods["head"]["metadata"]["labels"].pop("app.kubernetes.io/instance"),
}


@pytest.mark.parametrize("demand", DEMANDS)
def test_a_platform_would_not_have_it(demand):
    pods = pods_of(KUBERAY["rayjob-enhance"])
    SPOILED[demand](pods)
    assert unmet(pods) == {demand}


def test_the_token_is_kept_from_jobs():
    """They run in the head's first container; with the token mounted there they could change pods."""
    pods = pods_of(KUBERAY["raycluster"])
    ray, autoscaler = pods["head"]["spec"]["containers"]
    ray["volumeMounts"] = autoscaler["volumeMounts"]
    assert unmet(pods) == {"token"}


@pytest.mark.parametrize("name", KUBERAY)
def test_pods_have_the_user_of_the_image_and_hold_no_secret(name):
    user = next(int(command.value[0]) for command in reversed(DOCKERFILE) if command.cmd == "USER")
    for group in groups_of(KUBERAY[name]):
        assert group["template"]["spec"]["securityContext"]["runAsUser"] == user
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "sgllie-s3", "optional": True}}]
        assert "env" not in container


def pod_named(name: str, pod: str) -> Peer:
    """Return a pod of a file as its policies see it."""
    return Peer(namespace="sgllie", labels=pods_of(KUBERAY[name])[pod]["metadata"]["labels"])


HEAD, WORKER, SUBMITTER = (pod_named("rayjob-enhance", pod) for pod in ("head", "cpu", "submitter"))
OPERATOR = Peer(namespace="ray-system", labels={"app.kubernetes.io/name": "kuberay-operator"})
NEIGHBOUR = Peer(namespace="default")
DNS = Peer(namespace="kube-system", labels={"k8s-app": "kube-dns"})
S3, METADATA, API_SERVER = Peer("52.218.128.1"), Peer("169.254.169.254"), Peer("10.0.0.1")


@pytest.mark.parametrize(
    ("source", "target", "port", "expected"),
    [
        (WORKER, HEAD, 6379, True),
        (HEAD, WORKER, 34567, True),
        (SUBMITTER, HEAD, 8265, True),
        (OPERATOR, HEAD, 8265, True),
        (WORKER, S3, 443, True),
        (HEAD, S3, 443, True),
        (HEAD, API_SERVER, 443, True),
        (HEAD, API_SERVER, 6443, True),
        (SUBMITTER, HEAD, 6379, False),
        (SUBMITTER, WORKER, 8265, False),
        (SUBMITTER, S3, 443, False),
        (NEIGHBOUR, HEAD, 8265, False),
        (NEIGHBOUR, WORKER, 34567, False),
        (OPERATOR, WORKER, 34567, False),
        (WORKER, NEIGHBOUR, 80, False),
        (WORKER, S3, 80, False),
        (WORKER, METADATA, 80, False),
        (HEAD, METADATA, 80, False),
        (WORKER, API_SERVER, 443, False),
    ],
)
def test_the_network_lets_through_what_is_needed(source, target, port, expected):
    assert connects(POLICIES, source, target, port) == expected


@pytest.mark.parametrize("pod", [HEAD, WORKER, SUBMITTER], ids=["head", "worker", "submitter"])
def test_names_are_resolved(pod):
    assert connects(POLICIES, pod, DNS, 53, "UDP")
    assert not connects(POLICIES, pod, DNS, 80)


def test_without_the_first_policy_all_would_pass():
    open_again = [one for one in POLICIES if one["metadata"]["name"] != "deny-all"]
    assert connects(open_again, NEIGHBOUR, SUBMITTER, 22)
    assert not connects(POLICIES, NEIGHBOUR, SUBMITTER, 22)


def test_enhancing_asks_for_the_workers_there_may_be():
    """With none at the start, the job would count no processor at all."""
    *_, line = shlex.split(KUBERAY["rayjob-enhance"]["spec"]["entrypoint"])
    command, name, *arguments = shlex.split(line.split("||")[0])
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


class Receiver:
    """Ray's client of the dashboard, which keeps what it is to run."""

    def submit_job(self, *, entrypoint: str, **_: object) -> str:
        self.entrypoint = entrypoint
        return "job"

    def get_version(self) -> str:
        return "4"


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (3, 0), (130, 1)])
def test_failed_images_do_not_fail_the_job(code, expected, tmp_path, monkeypatch):
    """The way of the entrypoint: the submitter's bash, `ray job submit`, and the shell in which Ray runs it.

    KubeRay takes a Ray job whose entrypoint ends with anything but 0 for failed, and tries it again.
    """
    (tmp_path / "ray").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "sgllie").write_text(f"#!/bin/sh\nexit {code}\n")
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    entrypoint = KUBERAY["rayjob-enhance"]["spec"]["entrypoint"]
    line = f"ray job submit --address http://head:8265 --no-wait -- {entrypoint} ;"
    sent = subprocess.run(["bash", "-ec", line], env=environment, capture_output=True, text=True, check=True)
    receiver = Receiver()
    monkeypatch.setattr(ray_job, "_get_sdk_client", lambda *_, **__: receiver)
    result = CliRunner().invoke(ray_job.job_cli_group, sent.stdout.splitlines()[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    ran = subprocess.run(receiver.entrypoint, shell=True, env=environment, check=False)
    assert ran.returncode == expected


def test_the_digests_of_the_images_go_into_the_files(tmp_path):
    """The commands of README.md, with a `docker` that has pushed; given again after another build, too."""
    (block,) = re.findall(r"^```\n(REGISTRY=.*?)^```", README, re.DOTALL | re.MULTILINE)
    shutil.copytree(CLUSTER, tmp_path / "cluster")
    for digit in "12":
        (tmp_path / "docker").write_text(
            '#!/bin/sh\ncase "$*" in inspect*cuda) n=a;; inspect*) n=b;; *) exit 0;; esac\n'
            f"printf 'my.registry/sgllie@sha256:%063d%s\\n' {digit} $n\n"
        )
        (tmp_path / "docker").chmod(0o755)
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        subprocess.run(["bash", "-ec", block], cwd=tmp_path, env=environment, check=True)
        for path in KUBERAY:
            for one in yaml.safe_load_all((tmp_path / f"cluster/{path}.yaml").read_text()):
                for name, pod in pods_of(one).items() if one["apiVersion"] == "ray.io/v1" else ():
                    images = {container["image"] for container in pod["spec"]["containers"]}
                    suffix = "a" if name == "gpu" else "b"
                    assert images == {f"my.registry/sgllie@sha256:{int(digit):063d}{suffix}"}


def test_the_readme_names_what_is_there():
    names = {name: resource["metadata"]["name"] for name, resource in KUBERAY.items()}
    (namespace,) = [one["metadata"]["name"] for one in PLAIN if one["kind"] == "Namespace"]
    assert f"kubectl config set-context --current --namespace {namespace}\n" in README
    assert f"kubectl get rayjob {names['rayjob-enhance']} " in README
    assert f"--selector job-name={names['rayjob-enhance']}\n" in README, "KubeRay names the submitter's Job so"
    assert f"service/{names['raycluster']}-head-svc " in README
    assert f"kubectl get secret {names['raycluster']} " in README
    accounts = [one["metadata"]["name"] for one in PLAIN if one["kind"] == "ServiceAccount"]
    assert f"kubectl annotate serviceaccount {' '.join(accounts)} " in README
    assert all((CLUSTER.parent / path).is_file() for path in re.findall(r"-f (cluster/\S+)", README))
