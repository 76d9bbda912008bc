"""Which network training processes meet on; that they do, on two machines, is a test of test_machines.py."""

import os
import socket

import pytest
import ray

from sgllie.distributed.process_group import choose_network, interface_of

pytestmark = pytest.mark.jobs


@pytest.fixture
def loopback(monkeypatch) -> str:
    """The name of the interface of 127.0.0.1, which is the address of this node."""
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def test_an_interface_is_found_by_its_address(loopback):
    assert interface_of("127.0.0.1") == loopback
    assert interface_of("203.0.113.7") is None


def test_the_environment_has_the_last_word(loopback, monkeypatch):
    monkeypatch.setitem(os.environ, "GLOO_SOCKET_IFNAME", "eth9")
    choose_network()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth9"
    monkeypatch.delitem(os.environ, "GLOO_SOCKET_IFNAME")
    choose_network()
    assert os.environ["GLOO_SOCKET_IFNAME"] == loopback
