"""The network that the published scripts run, for the benchmarks that compare with them."""

from pathlib import Path

import torch

from sgllie.network import weights
from sgllie.network.model import FactorNetwork, network_from


def published_network(checkpoint: Path | None) -> FactorNetwork:
    """Load a published checkpoint with the denormals that it holds, which slow convolutions down; None: our weights."""
    if checkpoint is None:
        return network_from(weights.load(weights.DEFAULT))
    network = FactorNetwork("sgz", "dsc")
    network.load_state_dict(torch.load(checkpoint, "cpu", weights_only=True))
    return network.eval()
