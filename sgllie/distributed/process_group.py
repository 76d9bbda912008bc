"""How training processes on several machines find each other."""

import fcntl
import os
import socket
import struct
from typing import Any

import ray
from ray.train.backend import Backend
from ray.train.torch import TorchConfig

SIOCGIFADDR = 0x8915
"""Linux's request for the address of a network interface."""


class ProcessGroup(TorchConfig):
    """Ray's own process group, with gloo told which network to use.

    Left to itself gloo takes the address that a machine has for its own host name. Many have none, and Debian and
    Ubuntu write down 127.0.1.1, where no other machine finds it.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that starts the group: Ray's, after the network was chosen in each training process."""
        base: Any = super().backend_cls

        class ChosenNetwork(base):
            def on_start(self, worker_group: Any, backend_config: Any) -> None:
                worker_group.execute(choose_network)
                super().on_start(worker_group, backend_config)

        return ChosenNetwork


def choose_network() -> None:
    """Let gloo use the network that Ray uses, unless the environment says otherwise."""
    interface = interface_of(ray.util.get_node_ip_address())
    if interface:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)


def interface_of(address: str) -> str | None:
    """Return the network interface that has this IPv4 address, such as `eth0`; None where none has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
