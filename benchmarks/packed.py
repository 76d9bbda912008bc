"""Compare the enhancement of images in tars and Parquet files with that of loose files, and look at its memory.

    python benchmarks/packed.py [--images 400] [--rounds 5] [--gigabytes 5]

First the same JPEGs of 640x480 are enhanced as files, as two tars and as two Parquet files (row groups of 100), by one
worker and in turns. Printed are the medians, over the rounds, of wall and processor time in relation to those of the
files of the same round. Then one tar of a tenth of the gigabytes and one of all of them are enhanced, each in a process
of its own, and the peak of its memory is printed. In these tars, 10 MB that are carried follow each image.
"""

import argparse
import io
import multiprocessing
import resource
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pictures import encode, fill, synthetic

from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.job import InProcess
from sgllie.runs.totals import Totals, add_up

CARRIED_BYTES = 10_000_000


def make_corpora(folder: Path, count: int) -> list[Path]:
    """Write the same images as files, tars and Parquet files; return the three folders."""
    generator = np.random.default_rng(0)
    jpegs = [encode(synthetic(generator)) for _ in range(32)]
    images = [jpegs[number % len(jpegs)] for number in range(count)]
    for name in ("tars", "parquet"):
        (folder / name).mkdir()
    for part, half in enumerate((images[: count // 2], images[count // 2 :])):
        write_tar(folder / f"tars/{part}.tar", ((f"{number:06d}.jpg", data) for number, data in enumerate(half)))
        table = pa.table({"image": [{"bytes": data, "path": None} for data in half], "label": range(len(half))})
        pq.write_table(table, folder / f"parquet/{part}.parquet", row_group_size=100)
    return [fill(folder / "files", jpegs, count), folder / "tars", folder / "parquet"]


def write_tar(path: Path, members: Iterator[tuple[str, bytes]]) -> None:
    """Write a tar."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def enhanced(source: Path, output: Path) -> tuple[float, float]:
    """Enhance a corpus in this process, after it was planned; return wall and processor seconds."""
    run = prepare(EnhanceSettings(str(source), str(output), device="cpu"))
    started = time.perf_counter(), time.process_time()
    results: dict[int, Totals] = {}
    InProcess().run_shards(run, results)
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    failed = add_up(results.values()).get("failed", 0)
    shutil.rmtree(output)
    if failed:
        raise SystemExit(f"{failed} images of {source} have failed")
    return seconds


def peak_memory(source: Path, output: Path) -> float:
    """Return the peak of the memory, in MB, of a process that enhances a corpus."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(enhance_and_measure, (source, output))


def enhance_and_measure(source: Path, output: Path) -> float:
    """Enhance a corpus; return the peak of this process's memory, in MB."""
    enhanced(source, output)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare_times(scratch: Path, count: int, rounds: int) -> None:
    """Print how long the packed images take in relation to files."""
    corpora = make_corpora(scratch, count)
    enhanced(corpora[0], scratch / "out")  # what is compiled and loaded by the first run
    times = np.array([[enhanced(corpus, scratch / "out") for corpus in corpora] for _ in range(rounds)])
    ratios = np.median(times / times[:, :1], axis=0)
    print(f"{count} images, medians of {rounds} rounds; files: {count / np.median(times[:, 0, 0]):.0f} images/s")
    for corpus, (wall, processor) in zip(corpora, ratios, strict=True):
        print(f"{corpus.name:8} {wall:5.2f} of the wall time of files, {processor:5.2f} of the processor time")


def compare_memory(scratch: Path, gigabytes: float) -> None:
    """Print how much memory a small and a large tar take."""
    jpeg = encode(synthetic(np.random.default_rng(0)))
    carried = np.random.default_rng(1).bytes(CARRIED_BYTES)
    for size in (gigabytes / 10, gigabytes):
        count = round(size * 1e9 / CARRIED_BYTES)
        members = ((f"{n:06d}.{kind}", data) for n in range(count) for kind, data in (("jpg", jpeg), ("bin", carried)))
        tar = scratch / "large.tar"
        write_tar(tar, members)
        peak = peak_memory(tar, scratch / "out")
        print(f"a tar of {tar.stat().st_size / 1e9:.1f} GB with {count} images: at most {peak:,.0f} MB of memory")


def main() -> None:
    """Make the corpora, and print times and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    settings = parser.parse_args()
    with TemporaryDirectory(prefix="sgllie-benchmark-") as folder:
        scratch = Path(folder)
        compare_times(scratch, settings.images, settings.rounds)
        compare_memory(scratch, settings.gigabytes)


if __name__ == "__main__":
    main()
