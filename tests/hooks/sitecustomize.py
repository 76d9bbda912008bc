"""Put on PYTHONPATH by the fault tests: images that hold a marker kill the process that decodes them, or take long."""

import importlib.abc
import importlib.util
import os
import sys
import time

MARKER = b"KILL THE DECODER"
SLOW = b"WAIT WITH ME"


class Hook(importlib.abc.MetaPathFinder):
    """Wraps `sgllie.images.decode` in every process that imports it."""

    def find_spec(self, name, path, target=None):
        if name != "sgllie.images":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            decode = module.decode

            def decode_or_die(data, **options):
                if MARKER in data:
                    os._exit(139)
                if SLOW in data:
                    time.sleep(0.1)
                return decode(data, **options)

            module.decode = decode_or_die

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Hook())
