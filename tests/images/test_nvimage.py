"""JPEG encoding by nvImageCodec: its CPU backend here, and a GPU where there is one."""

import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

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
CAN_RUN = torch.cuda.is_available() and find_spec("nvidia.nvjpeg")
ON_GPU = [pytest.mark.cuda, pytest.mark.skipif(not CAN_RUN, reason="needs CUDA and the extra gpu")]


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


def test_there_are_as_many_encoders_as_calls_at_once(encoder):
    """A job has two dozen threads more than compute."""
    encoder._free.clear()
    at_once, all_there = threading.Semaphore(2), threading.Barrier(12)

    def encode_in_turn(_):
        all_there.wait()
        with at_once:
            encoder(photograph(), 90, "420")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(encode_in_turn, range(12)))
    assert 1 <= len(encoder._free) <= 2


class Stub:
    """An encoder of the library's that encodes once, which tells that it is there, and then fails as on a GPU."""

    def __init__(self, said=None):
        self.left, self.said = 1, said

    def encode(self, *_, **__):
        self.left -= 1
        if self.left == 0:
            return b"a JPEG"
        if self.said:
            raise RuntimeError(self.said)
        return None


def stubbed(monkeypatch, make):
    """What encodes on a GPU with encoders that `make` makes of the arguments of the library's."""
    from nvidia import nvimgcodec

    monkeypatch.setattr(nvimgcodec, "Encoder", make)
    return NvImageEncoder("cuda")


AT = "at /build/python/device_utils.h:32"


@pytest.mark.parametrize(
    "said", [None, f"CUDA Runtime failure: '#2' {AT}", "nvImageCodec failure: '#7'"], ids=["nothing", "full", "refused"]
)
def test_what_the_library_does_not_encode_is_encoded_by_libjpeg(monkeypatch, said):
    encoder = stubbed(monkeypatch, lambda **_: Stub(said))
    assert encoder(photograph(), 90, "422") == jpeg.libjpeg(photograph(), 90, "422")


def test_an_encoder_that_finds_no_memory_when_it_is_made_leaves_the_image_to_libjpeg(monkeypatch):
    made = iter([Stub()])

    def make(**_):
        for stub in made:
            return stub
        raise RuntimeError(f"CUDA Runtime failure: '#2' {AT}")

    encoder = stubbed(monkeypatch, make)
    encoder._free.clear()
    assert encoder(photograph(), 90, "422") == jpeg.libjpeg(photograph(), 90, "422")


def test_a_gpu_that_fails_later_is_told(monkeypatch):
    encoder = stubbed(monkeypatch, lambda **_: Stub(f"CUDA Runtime failure: '#700' {AT}"))
    with pytest.raises(DeviceError, match=r"^the GPU does not work: CUDA Runtime failure: '#700'"):
        encoder(photograph(), 90, "422")


def test_on_a_gpu_the_encoder_is_asked_for_as_what_the_library_has(monkeypatch):
    """Its only one for JPEGs is a hybrid one, and it takes a backend only where the kind is the same."""
    given = {}
    stubbed(monkeypatch, lambda **options: given.update(options) or Stub())
    assert [backend.backend_kind.name for backend in given["backends"]] == ["HYBRID_CPU_GPU"]


def test_without_the_library_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia", None)
    with pytest.raises(UsageError, match="--gpu-jpeg needs the package nvidia-nvimgcodec-cu12"):
        NvImageEncoder("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_does_not_work_is_told():
    with pytest.raises(DeviceError, match="the GPU does not work: CUDA Runtime failure"):
        NvImageEncoder("cuda")


def test_only_a_job_on_gpus_takes_it():
    with pytest.raises(UsageError, match="--gpu-jpeg is on; it needs --device cuda"):
        EnhanceSettings("in", "out", gpu_jpeg=True)


@pytest.mark.cuda
@pytest.mark.skipif(not CAN_RUN, reason="needs CUDA and the extra gpu")
def test_outputs_of_the_job_are_those_of_libjpeg():
    settings = EnhanceSettings("in", "out", device="cuda")
    expected = ImageProcessor(settings)("a.jpg", JPEG)
    found = ImageProcessor(EnhanceSettings("in", "out", device="cuda", gpu_jpeg=True))("a.jpg", JPEG)
    assert (found.row["status"], found.row["device"]) == ("ok", "cuda")
    assert np.abs(pixels_of(found.data) - pixels_of(expected.data)).mean() < 1
