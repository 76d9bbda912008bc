"""JPEG encoding by nvImageCodec: its CPU backend here, and a GPU where there is one."""

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from image_files import JPEG, pillow
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import DeviceError, UsageError
from sgllie.images import decode, encode, jpeg
from sgllie.images.nvimage import NvImageEncoder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nvImageCodec is made for Linux")
ON_GPU = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=ON_GPU)])
def encoder(request):
    return NvImageEncoder(request.param)


def photograph(height=67, width=90, grey=False):
    rows, columns = np.mgrid[:height, :width]
    levels = np.stack([rows * 2 + columns, 250 - rows, 40 + columns], axis=2).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels[:, :, 0]) if grey else levels


EXIF = Image.Exif()
EXIF[0x010F] = "camera"
WITH_METADATA = pillow(photograph(), "JPEG", exif=EXIF, comment="kept", dpi=(72, 72))


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
@pytest.mark.parametrize("quality", [60, 95])
def test_as_good_as_libjpeg(encoder, subsampling, quality):
    found = encoder(photograph(), quality, subsampling)
    expected = jpeg.libjpeg(photograph(), quality, subsampling)
    assert jpeg.read(found, upright=False).metadata.subsampling == subsampling
    error, allowed = (np.abs(pixels_of(data) - photograph()).mean() for data in (found, expected))
    assert error < allowed + 0.1


def test_grey_stays_grey(encoder):
    found = encoder(photograph(grey=True), 95, "420")
    assert jpeg.read(found, upright=False).mode == "L"
    assert np.abs(pixels_of(found) - photograph(grey=True)).max() <= 4


def test_segments_of_the_input_are_kept(encoder):
    image = decode(WITH_METADATA)
    expected = encode(image, image.pixels)
    found = encode(image, image.pixels, jpeg_encoder=encoder)
    assert jpeg.read(found, upright=False).metadata == jpeg.read(expected, upright=False).metadata
    assert jpeg.read(found, upright=False).metadata.exif


def test_threads_share_an_encoder(encoder):
    pictures = [photograph(height) for height in range(20, 60)]
    expected = [encoder(picture, 90, "420") for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda picture: encoder(picture, 90, "420"), pictures)) == expected


def test_what_the_library_does_not_encode_is_encoded_by_libjpeg(encoder, monkeypatch):
    monkeypatch.setattr(encoder._local, "encoder", SimpleNamespace(encode=lambda *_, **__: None), raising=False)
    assert encoder(photograph(), 90, "422") == jpeg.libjpeg(photograph(), 90, "422")


def test_without_the_library_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia", None)
    with pytest.raises(UsageError, match="--gpu-jpeg needs the package nvidia-nvimgcodec-cu12"):
        NvImageEncoder("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_does_not_work_is_told():
    with pytest.raises(DeviceError, match="the GPU does not work: nvImageCodec says"):
        NvImageEncoder("cuda")


def test_only_a_job_on_gpus_takes_it():
    with pytest.raises(UsageError, match="--gpu-jpeg is on; it needs --device cuda"):
        EnhanceSettings("in", "out", gpu_jpeg=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_outputs_of_the_job_are_those_of_libjpeg():
    settings = EnhanceSettings("in", "out", device="cuda")
    expected = ImageProcessor(settings)("a.jpg", JPEG)
    found = ImageProcessor(EnhanceSettings("in", "out", device="cuda", gpu_jpeg=True))("a.jpg", JPEG)
    assert (found.row["status"], found.row["device"]) == ("ok", "cuda")
    assert np.abs(pixels_of(found.data) - pixels_of(expected.data)).mean() < 1
