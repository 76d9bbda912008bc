"""Small files that claim much: memory stays near what the file and its pixels need, whatever the claim."""

import io
import json
import struct
import subprocess
import sys
import time
import zlib

import pytest
from PIL import Image

from image_files import JPEG, RGB, png, png_chunk
from sgllie.errors import ImageError
from sgllie.metrics.labels import SCHEMES, decode_labels

GROWN = zlib.compress(bytes(200 << 20), 9) + b"\0"
GROWN += b"\0" * (len(GROWN) % 2)
SIDE = 64

MEASURE = """
import json, re, sys
from pathlib import Path
from sgllie.errors import ImageError
from sgllie.images import decode, encode, tiff, jpeg_check

def peak():
    return int(re.search("VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

results = {}
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = peak()
    try:
        image = decode(data, max_pixels=1_000_000, exif_orientation="apply")
        encode(image, image.pixels)
        result = "ok"
    except ImageError as error:
        result = error.error_type
    results[path] = result, peak() - before
print(json.dumps(results))
"""


def entries(changes=(), *, samples=1, bits=8):
    """The entries of a grey picture of 64 x 64 pixels, whose compressed data begin at byte 8."""
    found = {
        256: (4, 1, SIDE),
        257: (4, 1, SIDE),
        258: (3, 1, bits),
        259: (3, 1, 8),
        262: (3, 1, 2 if samples > 2 else 1),
        273: (4, 1, 8),
        277: (3, 1, samples),
        278: (4, 1, SIDE),
        279: (4, 1, len(GROWN)),
        **dict(changes),
    }
    return {tag: entry for tag, entry in found.items() if entry}


def directory(fields, following=0):
    body = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(fields.items()))
    return struct.pack("<H", len(fields)) + body + struct.pack("<I", following)


def tiff_file(fields, data=GROWN):
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory(fields)


def tiles(side, *, bits=8, samples=1):
    changes = {273: None, 278: None, 279: None, 322: (4, 1, side), 323: (4, 1, side)}
    return tiff_file(entries(changes | {324: (4, 1, 8), 325: (4, 1, len(GROWN))}, bits=bits, samples=samples))


def chain():
    """Smaller copies of the picture without end, each with tags as large as the file."""
    data = bytearray(b"II*\0" + struct.pack("<I", 8 + len(GROWN)) + GROWN)
    large = {65000 + number: (1, len(GROWN), 8) for number in range(30)}
    for number in range(1000):
        fields = entries({254: (4, 1, min(number, 1))}) | large
        data += directory(fields, len(data) + 6 + 12 * len(fields))
    return bytes(data)


def overlapping():
    return tiff_file(entries() | {60000 + number: (1, len(GROWN), 8) for number in range(5000)})


def grown_chunks():
    packets = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + GROWN) * 20
    return png(RGB, 2, 8, packets + png_chunk(b"iCCP", b"a\0\0" + GROWN) + png_chunk(b"zTXt", b"a\0\0" + GROWN) * 20)


def deep_packet():
    packet = b'<x:a xmlns:x="http://ns.google.com/photos/1.0/container/">' + b"<x:a>" * 200_000
    return png(RGB, 2, 8, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet)))


def run_lengths():
    header = struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 8, 1, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<III", 0, 0, 54 + 1024) + header + bytes(1024) + b"\0\1"


MANY = 4_000_000
"""Bytes of a file that claims to hold millions of things."""


def numbers(changes):
    """A TIFF of which tags have millions of values, one byte each."""
    data = b"\x40" * MANY
    many = {256: (1, MANY, 8), 257: (1, MANY, 8), 258: (1, MANY, 8), 262: (1, MANY, 8), 277: (1, MANY, 8)}
    return tiff_file({**entries(), **(many if changes is None else changes)}, data)


def tables():
    """A TIFF of which every table of its compression is as large as the file."""
    return numbers(dict.fromkeys((266, 292, 293, 332, 336, 347, *range(512, 522), *range(529, 533)), (1, MANY, 8)))


def riff(*chunks):
    body = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def webp_chunk(side, **options):
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "WEBP", **options)
    return file.getvalue()[12:]


def two_pictures():
    return riff(webp_chunk(4000, quality=1, method=0), webp_chunk(8, lossless=True))


def kinds_of_chunks():
    return riff(webp_chunk(8), *(struct.pack("<II", 0x80000000 + number, 0) for number in range(MANY // 8)))


def left_out_everywhere():
    packet = (
        b'<x:a xmlns:x="http://ns.google.com/photos/1.0/container/">' + b"<x:Directory/> " * (MANY // 15) + b"</x:a>"
    )
    return png(RGB, 2, 8, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))


# name -> file, what becomes of it, megabytes that it may cost
FILES = {
    "chain of directories": (chain(), "multi_frame", 20),
    "overlapping tags": (overlapping(), "corrupt", 20),
    "large strip": (tiff_file(entries({278: (4, 1, 0xFFFFFFF0)})), "ok", 20),
    "strip of 16 bits": (tiff_file(entries(bits=16)), "ok", 20),
    "strip of pairs": (tiff_file(entries(bits=16, samples=2)), "ok", 20),
    "planes": (tiff_file(entries({284: (3, 1, 2)}, samples=4)), "corrupt", 20),
    "huge tile": (tiles(1 << 15), "corrupt", 20),
    "large tile": (tiles(4096), "ok", 40),
    "tile of 16 bits": (tiles(4096, bits=16, samples=4), "ok", 200),
    "channels": (tiff_file(entries({277: (3, 1, 65535)})), "unsupported", 20),
    "extra channels": (tiff_file(entries({277: (3, 1, 60000), 338: (3, 60000, 8)})), "unsupported", 20),
    "1 bit and a second channel": (tiff_file(entries(samples=2, bits=1)), "unsupported", 20),
    "chunks of a PNG": (grown_chunks(), "ok", 100),
    "nested XMP": (deep_packet(), "ok", 100),
    "segments of a JPEG": (JPEG[:2] + b"\xff\xfe\0\2" * 90_000 + JPEG[2:], "ok", 60),
    "too many segments": (JPEG[:2] + b"\xff\xfe\0\2" * (MANY // 4) + JPEG[2:], "unsupported", 30),
    "too many chunks": (png(RGB, 2, 8, png_chunk(b"tEXt", b"") * (MANY // 12)), "unsupported", 30),
    "numbers without end": (numbers(None), "unsupported", 20),
    "a million strips": (
        numbers({256: (4, 1, 1), 257: (4, 1, MANY), 273: (1, MANY, 8), 278: (4, 1, 1), 279: (1, MANY, 8)}),
        "unsupported",
        20,
    ),
    "tables of a compression": (tables(), "corrupt", 20),
    "two pictures in a WebP": (two_pictures(), "too_large", 20),
    "kinds of chunks in a WebP": (kinds_of_chunks(), "ok", 20),
    "properties of XMP": (left_out_everywhere(), "ok", 10),
    "padding of a JPEG": (b"\xff\xd8" + b"\xff" * 2_000_000, "truncated", 20),
    "run lengths of a BMP": (run_lengths(), "too_large", 20),
}


@pytest.fixture(scope="module")
def costs(tmp_path_factory):
    """What becomes of each file in a process of its own, and by how many megabytes it grows."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = {name: folder / f"{number:02}" for number, name in enumerate(FILES)}
    for name, path in paths.items():
        path.write_bytes(FILES[name][0])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths.values())], capture_output=True, text=True, check=True
    )
    results = json.loads(done.stdout)
    return {name: results[str(path)] for name, path in paths.items()}


@pytest.mark.jobs
@pytest.mark.parametrize("name", FILES)
def test_claims_cost_no_memory(name, costs):
    result, megabytes = costs[name]
    _, expected, most = FILES[name]
    assert result == expected
    assert megabytes <= most


def chain_without_end(length):
    data = bytearray(b"II*\0" + struct.pack("<I", 8 + len(GROWN)) + GROWN)
    fields = entries()
    for _ in range(length):
        data += directory(fields, len(data) + 6 + 12 * len(fields))
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (tiles(1 << 15), "tiles of 32768 x 32768"),
        (numbers({273: (3, MANY // 2, 8)}), "claims 2,000,000 values"),
        (b"II+\0" + bytes(100), "BigTIFF"),
        (chain_without_end(50_000), "several images"),
    ],
    ids=["tile", "numbers", "BigTIFF", "chain"],
)
def test_label_maps_that_claim_much_are_refused_at_once(data, sentence):
    began = time.monotonic()
    with pytest.raises(ImageError, match=sentence):
        decode_labels(data, SCHEMES["cityscapes-ids"], max_pixels=1_000_000)
    assert time.monotonic() - began < 5
