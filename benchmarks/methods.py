"""Measure what each method of enhancement costs, against ours.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/methods.py [IMAGE] [--width 640 --height 480]

Prints, for each method, the median time of one call and its ratio to that of sgz, all measured in turns in the same
process, on one thread. Zero-DCE has random weights here, which take the same time as trained ones, and is measured at
scale factor 1 too. `onnx` runs a network that does nothing, so what it costs is the way there and back.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper
from turns import chosen_photograph, print_times

from sgllie.methods import METHODS, Method, MethodSettings, make_method
from sgllie.network import weights
from sgllie.network.architecture import parameter_shapes


def all_methods(folder: Path) -> dict[str, Method]:
    """Make every method of the registry; the weights that some need are written to a folder."""
    generator = np.random.default_rng(0)
    shapes = parameter_shapes("zero-dce", "tc")
    tensors = {name: generator.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    network, identity = str(folder / "zero-dce.safetensors"), str(folder / "identity.onnx")
    weights.save(weights.Weights("zero-dce", "tc", tensors), network)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), identity)
    files = {"zero-dce": network, "onnx": identity}
    found = {name: make_method(MethodSettings(method=name, weights=files.get(name), device="cpu")) for name in METHODS}
    whole = MethodSettings(method="zero-dce", weights=network, scale_factor=1, device="cpu")
    return found | {"zero-dce, scale 1": make_method(whole)}


def main() -> None:
    """Print the table."""
    image = chosen_photograph(__doc__)
    with TemporaryDirectory() as folder:
        methods = all_methods(Path(folder))
    print_times({name: partial(method, image) for name, method in methods.items()}, "sgz")


if __name__ == "__main__":
    main()
