"""Mutated files for `test_fuzz.py`: each target runs in a process of its own, with little memory and little time.

    PYTHONPATH=benchmarks python tests/support/fuzzers.py TARGET FOLDER MUTATIONS

prints one line for each finding. The last number in FOLDER/current is the mutation that killed the process, if one did.
"""

import contextlib
import dataclasses
import io
import random
import resource
import shutil
import struct
import sys
import time
import zlib
from pathlib import Path

from sgllie.errors import ImageError, SgllieError, UsageError

MEMORY = 12 << 30
SLOW_SECONDS = 5.0
VALUES = (0, 1, 0x7F, 0x80, 0xFF)
NUMBERS = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(data, chance):
    """The bytes with one to four changes; most are made near the begin, where headers are."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not data:
            break
        place = chance.randrange(min(len(data), chance.choice((64, 512, len(data)))))
        kind = chance.randrange(6)
        if kind == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place] = chance.choice(VALUES)
        elif kind == 2 and len(data) >= 4:
            place = min(place, len(data) - 4)
            struct.pack_into(chance.choice("<>") + "I", data, place, chance.choice(NUMBERS))
        elif kind == 3:
            del data[place : place + chance.choice((1, 2, 16, 10_000))]
        elif kind == 4:
            data[place:place] = data[place : place + chance.choice((1, 4, 64))] * chance.choice((1, 50))
        else:
            other = chance.randrange(len(data))
            data[place : place + 8] = data[other : other + 8]
    return bytes(data)


def with_right_sums(data):
    """A PNG whose checksums fit what the mutation has made of its chunks, so that more than these are tried."""
    data, start = bytearray(data), 8
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4])
        if end > len(data):
            break
        struct.pack_into(">I", data, end - 4, zlib.crc32(data[start + 4 : end - 4]))
        start = end
    return bytes(data)


def images(folder, count):
    """Decoding, and encoding what could be decoded."""
    import image_files
    from sgllie.images import decode, encode

    files = {name: case[0] for name, case in image_files.LOSSLESS.items()} | image_files.ONE_OF_EACH
    files |= {"grey jpeg": image_files.GREY_JPEG, "cmyk jpeg": image_files.pillow(image_files.RGB, "JPEG", mode="CMYK")}
    for name, data in files.items():

        def attempt(changed):
            with contextlib.suppress(ImageError, MemoryError):
                image = decode(changed, max_pixels=1_000_000, exif_orientation="apply")
                encode(image, image.pixels)

        def change(data, chance, name=name):
            changed = mutated(data, chance)
            return with_right_sums(changed) if name.startswith("png") and chance.random() < 0.8 else changed

        yield name, data, attempt, count, change


def lists(folder, count):
    """Lists of inputs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sgllie.corpus.path_list import read_list

    table = io.BytesIO()
    pq.write_table(pa.table({"path": ["a.jpg", "b/c.png"], "label": [1, 2]}), table)
    files = {
        "list.txt": b"a.jpg\nb/c.png\n",
        "list.csv": b'path,label\na.jpg,1\n"b/c.png",2\n',
        "list.jsonl": b'{"path": "a.jpg", "label": 1}\n{"path": "b/c.png"}\n',
        "list.parquet": table.getvalue(),
    }
    for name, data in files.items():

        def attempt(changed, name=name):
            (folder / name).write_bytes(changed)
            with contextlib.suppress(UsageError):
                assert all(isinstance(path, str) for path in read_list(str(folder / name), None))

        yield name, data, attempt, 20 * count, mutated


def run_files(folder, count):
    """The files of a run, which the same command finds when it is repeated."""
    from commands import make_corpus
    from sgllie.enhance.run import prepare
    from sgllie.enhance.settings import EnhanceSettings
    from sgllie.runs.job import InProcess, run_job

    settings = EnhanceSettings(str(make_corpus(folder / "in", 4)), str(folder / "sound"), device="cpu", shard_images=2)
    with contextlib.redirect_stdout(io.StringIO()):
        run_job(prepare, settings, InProcess())
    changed_settings = dataclasses.replace(settings, output=str(folder / "out"))
    names = ("run.json", "_SUCCESS", "manifest/part-00000.parquet", "commits/part-00001.parquet")
    for name in names:

        def attempt(changed, name=name):
            shutil.rmtree(folder / "out", ignore_errors=True)
            shutil.copytree(folder / "sound", folder / "out")
            (folder / "out" / name).write_bytes(changed)
            if name != "_SUCCESS":
                (folder / "out/_SUCCESS").unlink()
            with contextlib.suppress(SgllieError):
                run_job(prepare, changed_settings, InProcess())

        yield name, (folder / "sound" / name).read_bytes(), attempt, count, mutated


def weights(folder, count):
    """Weights in both kinds of files."""
    import torch

    from sgllie.network.weights import BUNDLED, from_bytes, from_checkpoint, load

    state = {name: torch.from_numpy(tensor) for name, tensor in load("sgllie").tensors.items()}
    archive, legacy = io.BytesIO(), io.BytesIO()
    torch.save(state, archive)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    files = {
        "safetensors": ((BUNDLED / "sgllie.safetensors").read_bytes(), from_bytes),
        "pth": (archive.getvalue(), from_checkpoint),
        "legacy pth": (legacy.getvalue(), from_checkpoint),
    }
    for name, (data, read) in files.items():

        def attempt(changed, read=read):
            with contextlib.suppress(UsageError):
                read(changed, "it")

        yield name, data, attempt, 5 * count, mutated


TARGETS = {"images": images, "lists": lists, "run_files": run_files, "weights": weights}


def main(target, folder, count):
    """Print a line for each finding."""
    folder = Path(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with (folder / "current").open("w") as current:
        for name, data, attempt, repetitions, change in TARGETS[target](folder, int(count)):
            for number in range(repetitions):
                current.seek(0)
                current.write(f"{name} {number:6d}\n")
                current.flush()
                changed = change(data, random.Random(f"{name} {number}"))
                started = time.perf_counter()
                try:
                    with contextlib.redirect_stdout(io.StringIO()):
                        attempt(changed)
                except BaseException as error:
                    sys.stdout.write(f"{name} {number}: {type(error).__name__}: {error}\n")
                if time.perf_counter() - started > SLOW_SECONDS:
                    sys.stdout.write(f"{name} {number}: {time.perf_counter() - started:.1f} s\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
