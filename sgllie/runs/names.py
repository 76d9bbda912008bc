"""What the files and folders of an output are called.

OUT/run.json                      settings, fingerprints, versions
OUT/manifest/part-00042.parquet   the items of shard 42
OUT/commits/part-00042.parquet    one row for each of them; the shard is done when this file exists, and only then
OUT/stats/part-00000.parquet      all rows in few files, written at the end
OUT/others/part-00043.parquet     the same as commits for a shard of files that are no images
OUT/images/, videos/              what was enhanced, with what was carried beside it
OUT/segments/, frames/            rows of the parts and frames of videos
OUT/.partial/                     what is not finished
OUT/_SUCCESS                      written at the end
"""

import re
from collections.abc import Iterable

from sgllie.storage import Entry

MANIFEST, COMMITS, STATS, IMAGES, RUN, SUCCESS = "manifest", "commits", "stats", "images", "run.json", "_SUCCESS"
SEGMENTS, FRAMES, VIDEOS, OTHERS = "segments", "frames", "videos", "others"
REPORT, SUMMARY, COMPARISON, COMPARISON_TABLE = "report.html", "summary.json", "compare.html", "summary.csv"


def part_name(shard: int) -> str:
    """Return `part-00042.parquet`; the same in the manifest and among the commits."""
    return f"part-{shard:05d}.parquet"


def parts(entries: Iterable[Entry]) -> set[int]:
    """Return the numbers in a listing of manifest/, commits/ or stats/; empty and foreign files do not count."""
    found = (re.fullmatch(r"part-(\d+)\.parquet", entry.path) for entry in entries if entry.size)
    return {int(name[1]) for name in found if name}
