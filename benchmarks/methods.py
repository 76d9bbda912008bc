"""What each method of enhancement costs, against ours.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/methods.py [IMAGE] [--width 640 --height 480]

Prints, for each method, the median time of one call and its ratio to that of sgz, all measured in turns in the same
process, on one thread. Zero-DCE has random weights here, which take the same time as trained ones, and is measured at
scale factor 1 too. `onnx` runs a network that does nothing, so what it costs is the way there and back.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from sgllie import weights
from sgllie.architecture import parameter_shapes
from sgllie.methods import METHODS, Method, make_method
from sgllie.settings import MethodSettings

ROUNDS = 25
SAMPLE = Path(__file__).parents[1] / "samples" / "coffee.jpg"


def all_methods(folder: Path) -> dict[str, Method]:
    """Every method of the registry; the weights that some need are written to a folder."""
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    settings = parser.parse_args()
    cv2.setNumThreads(1)
    if (stored := cv2.imread(str(settings.image))) is None:
        parser.error(f"{settings.image} is not an image that OpenCV reads")
    image = np.asarray(cv2.resize(stored, (settings.width, settings.height)), np.uint8)[..., ::-1].copy()
    with TemporaryDirectory() as folder:
        methods = all_methods(Path(folder))
    times: dict[str, list[float]] = {name: [] for name in methods}
    for method in methods.values():
        method(image)
    for _ in range(ROUNDS):
        for name, method in methods.items():
            started = time.perf_counter()
            method(image)
            times[name].append(1000 * (time.perf_counter() - started))
    ours = float(np.median(times["sgz"]))
    print(f"{settings.width}x{settings.height}, one thread, median of {ROUNDS}")
    for name, measured in times.items():
        print(f"{name:18} {np.median(measured):8.2f} ms {np.median(measured) / ours:8.2f} x sgz")


if __name__ == "__main__":
    main()
