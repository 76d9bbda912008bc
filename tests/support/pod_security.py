"""The restricted profile of Kubernetes' Pod Security Standards, as rules over the specification of a pod.

From https://kubernetes.io/docs/concepts/security/pod-security-standards/, version 1.36. A rule is named after the
control there, and returns whether a pod obeys it.
"""

from collections.abc import Callable, Iterator
from typing import Any

Pod = dict[str, Any]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
SELINUX = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
HOOKS = ("livenessProbe", "readinessProbe", "startupProbe")


def containers_of(pod: Pod) -> list[dict[str, Any]]:
    """Return the containers of every kind."""
    return [one for kind in ("initContainers", "containers", "ephemeralContainers") for one in pod.get(kind, ())]


def contexts(pod: Pod) -> list[dict[str, Any]]:
    """Return the security contexts of the pod and of its containers."""
    return [one.get("securityContext") or {} for one in (pod, *containers_of(pod))]


def effective(pod: Pod, field: str) -> list[Any]:
    """Return what holds for each container: what it says itself, else what its pod says."""
    whole, *own = contexts(pod)
    return [one.get(field, whole.get(field)) for one in own]


def handlers(container: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the probes and lifecycle hooks of a container."""
    yield from (container[name] for name in HOOKS if name in container)
    yield from container.get("lifecycle", {}).values()


RULES: dict[str, Callable[[Pod], bool]] = {
    "HostProcess": lambda pod: not any(one.get("windowsOptions", {}).get("hostProcess") for one in contexts(pod)),
    "Host Namespaces": lambda pod: not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")),
    "Privileged Containers": lambda pod: not any(one.get("privileged") for one in contexts(pod)),
    "Capabilities": lambda pod: all(
        "ALL" in given.get("drop", ()) and set(given.get("add", ())) <= {"NET_BIND_SERVICE"}
        for given in (one.get("capabilities", {}) for one in contexts(pod)[1:])
    ),
    "Volume Types": lambda pod: all(one.keys() - {"name"} <= VOLUMES for one in pod.get("volumes", ())),
    "Host Ports": lambda pod: (
        not any(port.get("hostPort") for one in containers_of(pod) for port in one.get("ports", ()))
    ),
    "Host Probes / Lifecycle Hooks": lambda pod: (
        not any(
            handler.get(kind, {}).get("host")
            for one in containers_of(pod)
            for handler in handlers(one)
            for kind in ("httpGet", "tcpSocket")
        )
    ),
    "AppArmor": lambda pod: all(
        one.get("appArmorProfile", {}).get("type", "RuntimeDefault") in {"RuntimeDefault", "Localhost"}
        for one in contexts(pod)
    ),
    "SELinux": lambda pod: all(
        given.get("type") in SELINUX and not given.get("user") and not given.get("role")
        for given in (one.get("seLinuxOptions", {}) for one in contexts(pod))
    ),
    "/proc Mount Type": lambda pod: all(one.get("procMount", "Default") == "Default" for one in contexts(pod)),
    "Seccomp": lambda pod: all(
        (one or {}).get("type") in {"RuntimeDefault", "Localhost"} for one in effective(pod, "seccompProfile")
    ),
    "Sysctls": lambda pod: {one["name"] for one in contexts(pod)[0].get("sysctls", ())} <= SYSCTLS,
    "Privilege Escalation": lambda pod: all(one.get("allowPrivilegeEscalation") is False for one in contexts(pod)[1:]),
    "Running as Non-root": lambda pod: all(one is True for one in effective(pod, "runAsNonRoot")),
    "Running as Non-root user": lambda pod: not any(one.get("runAsUser") == 0 for one in contexts(pod)),
}


def broken_rules(pod: Pod) -> list[str]:
    """Return the names of the rules that a pod breaks; with none, a namespace with this profile admits it."""
    return [name for name, obeys in RULES.items() if not obeys(pod)]
