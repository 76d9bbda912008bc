"""The files of cluster/ for KubeRay, what its operator accepts, and the pods that it makes of them.

By its API reference and the source of its operator, release 1.6 and newer.
"""

import copy
from typing import Any

import yaml
from kubernetes.utils import parse_quantity

from places import CLUSTER

Resource = dict[str, Any]
FILES = [CLUSTER / "namespace.yaml", *CLUSTER.glob("ray[cj]*.yaml")]
DOCUMENTS = {path.stem: list(yaml.safe_load_all(path.read_text())) for path in FILES}
KUBERAY = {name: one for name, documents in DOCUMENTS.items() for one in documents if one["apiVersion"] == "ray.io/v1"}
PLAIN = [one for documents in DOCUMENTS.values() for one in documents if one["apiVersion"] != "ray.io/v1"]

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
    autoscalerOptions=fields(
        "",
        idleTimeoutSeconds=WHOLE,
        upscalingMode={"enum": ["Default", "Conservative"]},
        securityContext=ANY,
        resources=ANY,
        volumeMounts=ANY,
    ),
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
    "entrypoint rayClusterSpec shutdownAfterJobFinishes activeDeadlineSeconds",
    entrypoint=TEXT,
    rayClusterSpec=CLUSTER_SPEC,
    submitterPodTemplate=ANY,
    shutdownAfterJobFinishes={"enum": [True]},
    ttlSecondsAfterFinished=WHOLE,
    backoffLimit=WHOLE,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
)
SCHEMAS = {
    kind: fields("metadata spec", apiVersion=TEXT, kind=TEXT, metadata=ANY, spec=spec)
    for kind, spec in {"RayCluster": CLUSTER_SPEC, "RayJob": JOB_SPEC}.items()
}


def cluster_of(resource: Resource) -> Resource:
    """The part of a resource that describes the Ray cluster."""
    return resource["spec"]["rayClusterSpec"] if resource["kind"] == "RayJob" else resource["spec"]


def groups_of(resource: Resource) -> list[Resource]:
    """Head and workers."""
    cluster = cluster_of(resource)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pods_of(resource: Resource) -> dict[str, Resource]:
    """The templates of the pods that KubeRay makes of a resource, with the containers and labels that it adds."""
    resource = copy.deepcopy(resource)
    cluster, head = cluster_of(resource), groups_of(resource)[0]["template"]
    image = head["spec"]["containers"][0]["image"]
    pods = {"head": head} | {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    for name, pod in pods.items():
        pod["metadata"]["labels"] |= {
            "ray.io/is-ray-node": "yes",
            "ray.io/node-type": "head" if name == "head" else "worker",
        }
        ray = pod["spec"]["containers"][0]
        if name == "head" and cluster.get("enableInTreeAutoscaling"):
            options = cluster.get("autoscalerOptions", {})
            taken = {key: options[key] for key in ("securityContext", "resources", "volumeMounts") if key in options}
            pod["spec"]["containers"].append({"name": "autoscaler", "image": image} | taken)
        if name != "head":
            shared = {key: ray[key] for key in ("image", "securityContext", "volumeMounts") if key in ray}
            pod["spec"]["initContainers"] = [{"name": "wait-gcs-ready"} | shared]
    if resource["kind"] == "RayJob":
        bare = {"spec": {"restartPolicy": "Never", "containers": [{"name": "ray-job-submitter", "image": image}]}}
        pods["submitter"] = resource["spec"].get("submitterPodTemplate", bare)
    return pods


def limit(group: Resource, resource: str) -> int:
    """How much of a resource each pod of a group may take."""
    (container,) = group["template"]["spec"]["containers"]
    return int(parse_quantity(container["resources"]["limits"].get(resource, 0)))
