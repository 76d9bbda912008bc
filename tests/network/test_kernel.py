"""Loops over pixels give the same pixels, whether they were just compiled, read from the cache, or cannot be kept."""

import os
import subprocess
import sys

CODE = """
import sys
import numpy as np
from sgllie import Enhancer
from sgllie.network.noise import noise_of
from sgllie.video.yuv import to_frame, to_rgb

waves = 40 + 30 * np.sin(np.arange(160)[:, None] / 17) * np.cos(np.arange(240) / 23)
noise = np.random.default_rng(0).normal(0, 3, (160, 240, 3))
image = np.clip(waves[..., None] * [0.7, 0.6, 0.5] + noise, 0, 255).astype(np.uint8)
enhancer = Enhancer.load(device="cpu", denoise=True)
arrays = noise_of(image).variances, enhancer(image), to_rgb(to_frame(enhancer(image), "yuv420p", 1, 1))
sys.stdout.buffer.write(b"".join(array.tobytes() for array in arrays))
"""


def pixels(**environment):
    """What the code above writes in a process with these environment variables."""
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, check=True).stdout


def test_code_from_the_cache_gives_the_pixels_of_the_process_that_compiled_it(tmp_path):
    compiled, cached = (pixels(NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert len(compiled) == 256 * 4 + 2 * 160 * 240 * 3
    assert list(tmp_path.rglob("*.nbc"))
    assert compiled == cached


def test_where_no_file_can_be_written_code_is_compiled_each_time(tmp_path):
    (tmp_path / "file").touch()
    nowhere = {"NUMBA_CACHE_DIR": f"{tmp_path}/file", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    assert pixels(**nowhere) == pixels()
