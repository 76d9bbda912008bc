"""What NetworkPolicies let through, by the rules of https://kubernetes.io/docs/concepts/services-networking/network-policies/."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A pod, or an address that is none.

    Attributes:
        address: of a machine outside, or "" for a pod.
        namespace: of a pod.
        labels: of a pod.
    """

    address: str = ""
    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Tell whether a selector without expressions matches these labels; the empty one matches all."""
    assert selector.keys() <= {"matchLabels"}, "only matchLabels is understood here"
    return selector.get("matchLabels", {}).items() <= labels.items()


def names(side: dict[str, Any], peer: Peer, namespace: str) -> bool:
    """Tell whether one entry of `from` or `to` of a policy in a namespace means this peer."""
    if "ipBlock" in side:
        block = side["ipBlock"]
        outside = [ip_network(one) for one in block.get("except", ())]
        address = peer.address and ip_address(peer.address)
        return bool(address) and address in ip_network(block["cidr"]) and not any(address in one for one in outside)
    if peer.address:
        return False
    if "namespaceSelector" in side:
        in_namespace = selects(side["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace})
    else:
        in_namespace = peer.namespace == namespace
    return in_namespace and selects(side.get("podSelector", {}), peer.labels)


def passes(policies: list[Policy], direction: str, pod: Peer, other: Peer, port: int, protocol: str) -> bool:
    """Tell whether the policies of a pod, for Ingress or Egress, let a connection with the other side through."""
    where, side = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
    mine = [
        one
        for one in policies
        if direction in one["spec"]["policyTypes"]
        and one["metadata"]["namespace"] == pod.namespace
        and selects(one["spec"]["podSelector"], pod.labels)
    ]
    rules = [(rule, one["metadata"]["namespace"]) for one in mine for rule in one["spec"].get(where, ())]
    return not mine or any(
        (side not in rule or any(names(entry, other, namespace) for entry in rule[side]))
        and ("ports" not in rule or {"protocol": protocol, "port": port} in rule["ports"])
        for rule, namespace in rules
    )


def connects(policies: list[Policy], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Tell whether a connection is let out by its source and let in by its target, where these are pods."""
    leaves = bool(source.address) or passes(policies, "Egress", source, target, port, protocol)
    return leaves and (bool(target.address) or passes(policies, "Ingress", target, source, port, protocol))
