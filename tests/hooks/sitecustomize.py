"""Put on PYTHONPATH by the fault tests: changes modules of this project in every process that imports them.

Images that hold a marker kill the process that decodes them, or take long; with PRETEND_CUDA set, what would run on a
GPU runs on the CPU.
"""

import importlib.abc
import importlib.util
import os
import sys
import time

MARKER = b"KILL THE DECODER"
SLOW = b"WAIT WITH ME"


def change_images(module):
    """Wrap `decode`."""
    decode = module.decode

    def decode_or_die(data, **options):
        if MARKER in data:
            os._exit(139)
        if SLOW in data:
            time.sleep(0.1)
        return decode(data, **options)

    module.decode = decode_or_die


def change_enhancer(module):
    """Put the engine of the CPU in the place of the other."""
    if os.environ.get("PRETEND_CUDA"):
        module.CudaEngine = lambda weights, half: module.CpuEngine(weights)


class Hook(importlib.abc.MetaPathFinder):
    """Changes modules once they are loaded."""

    changes = {"sgllie.images": change_images, "sgllie.enhancer": change_enhancer}  # noqa: RUF012

    def find_spec(self, name, path, target=None):
        if name not in self.changes:
            return None
        change = self.changes.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Hook())
