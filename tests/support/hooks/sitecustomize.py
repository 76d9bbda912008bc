"""Put on PYTHONPATH by the fault tests: changes modules of this project in every process that imports them.

Images that hold a marker kill or stop the process that decodes them, take long, or wait until a second process (or
MEETING_OF of them) decodes one; with PRETEND_CUDA set, what would run on a GPU runs on the CPU; with HOLD set to a
pattern, whoever would write a second file of the output that it matches waits for ever, so that a job can be stopped in
its middle, and cannot end before.
SEGMENT_BYTES is what is saved of a tar at a time.
"""

import dataclasses
import importlib.abc
import importlib.util
import os
import sys
import time
from pathlib import Path, PurePosixPath

MARKER = b"KILL THE DECODER"
SLOW = b"WAIT WITH ME"
ENDLESS = b"NEVER COME BACK"
TOGETHER = b"WAIT FOR ANOTHER"


def change_codec(module):
    """Wrap the decoding of pixels."""
    open_image = module.open_image

    def open_or_die(data, **options):
        opened = open_image(data, **options)

        def pixels(least):
            if MARKER in data:
                os._exit(139)
            if SLOW in data:
                time.sleep(0.1)
            if TOGETHER in data:
                meeting = Path(os.environ["MEETING"])
                (meeting / str(os.getpid())).touch()
                while len(list(meeting.iterdir())) < int(os.environ.get("MEETING_OF", "2")):
                    time.sleep(0.05)
            if ENDLESS in data:
                time.sleep(3600)
            return opened._pixels(least)

        return dataclasses.replace(opened, _pixels=pixels)

    module.open_image = open_or_die


def change_enhancer(module):
    """Have the engine of the GPU run on the CPU; with BROKEN_GPU set, it fails as a GPU does, or cannot be opened."""
    if not os.environ.get("PRETEND_CUDA"):
        return

    def engine_for(device, weights, *, half):
        from sgllie.errors import DeviceMemoryError
        from sgllie.network.torch_engine import TorchEngine

        if device == "cuda" and os.environ.get("BROKEN_GPU") == "full":
            raise DeviceMemoryError("the memory of the GPU is full")
        engine = TorchEngine(weights, "cpu", half=half) if device == "cuda" else module.CpuEngine(weights)
        if device == "cuda" and os.environ.get("BROKEN_GPU"):
            engine.network.encode = broken
        return engine

    def broken(x):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    module.engine_for = engine_for


def wait_unless_first(note, path):
    """Note the path if nobody has noted one; wait for ever where it is another that is noted."""
    try:
        with note.open("x") as file:
            file.write(path)
    except FileExistsError:
        while note.read_text() != path:
            time.sleep(0.1)


def change_storage(module):
    """Wrap `write` and `commit`."""
    pattern = os.environ.get("HOLD")

    def held(write):
        def write_or_wait(storage, path, data):
            if pattern and PurePosixPath(path).match(pattern):
                wait_unless_first(storage.root.parent / f"first-in-{storage.root.name}", path)
            write(storage, path, data)

        return write_or_wait

    for name in ("write", "commit"):
        setattr(module.LocalStorage, name, held(getattr(module.LocalStorage, name)))


def change_packing(module):
    """Save what is done to a tar or a Parquet file in smaller segments."""
    module.SEGMENT_BYTES = int(os.environ.get("SEGMENT_BYTES", module.SEGMENT_BYTES))


class Hook(importlib.abc.MetaPathFinder):
    """Changes modules once they are loaded."""

    changes = {  # noqa: RUF012
        "sgllie.images.codec": change_codec,
        "sgllie.enhance.packing": change_packing,
        "sgllie.enhancer": change_enhancer,
        "sgllie.storage.local": change_storage,
    }

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
