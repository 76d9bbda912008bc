"""Outputs of `enhance` for the tests of the report: a real run over awkward images, and statistics without images."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

from places import SAMPLES
from sgllie.cli import main
from sgllie.runs.journal import saved_bytes
from sgllie.runs.names import part_name
from sgllie.runs.schemas import SCHEMA_VERSION, STATS_SCHEMA, luma_fields

ODD_NAMES = [
    "<script>alert(1)<!--.jpg",
    "\"><img src=x onerror=alert(1)>'.jpg",
    "&lt;&amp;{{ 7 * 7 }}.jpg",
    "naïve 夜景 🌃 \u202egpj.jpg",
    "new\nline.jpg",
]


def make_awkward_corpus(folder: Path) -> Path:
    """A dozen images with odd names, of every kind of pixels, one of them bright, and 11 files that are no images."""
    folder.mkdir()
    shutil.copy(SAMPLES / "coffee.jpg", folder)
    coffee = cv2.resize(cv2.imread(str(SAMPLES / "coffee.jpg")), (300, 200))
    for name in ODD_NAMES:
        (folder / name).write_bytes(cv2.imencode(".jpg", coffee)[1].tobytes())
    cv2.imwrite(str(folder / "deep.png"), coffee.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "grey.png"), coffee[..., 0])
    cv2.imwrite(str(folder / "deep-grey.png"), coffee[..., 0].astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([coffee, coffee[..., 0]]))
    cv2.imwrite(str(folder / "thread.png"), np.full((1, 900, 3), 40, np.uint8))
    cv2.imwrite(str(folder / "bright.jpg"), np.full((200, 300, 3), 220, np.uint8))
    for number in range(9):
        (folder / f"empty{number}.jpg").write_bytes(b"")
    (folder / "half<i>.jpg").write_bytes((SAMPLES / "coffee.jpg").read_bytes()[:3000])
    (folder / "page.jpg").write_bytes(b"<!DOCTYPE html><script>alert(2)</script>")
    return folder


def make_finished_run(folder: Path) -> tuple[Path, Path]:
    """Input and output of a real run, with its report."""
    source, output = make_awkward_corpus(folder / "in"), folder / "out"
    assert main(["enhance", str(source), str(output), "--only-darker-than", "0.6"]) == 3
    assert main(["report", str(output)]) == 0
    return source, output


def make_rows(count: int, seed: int, begin_ms: int = 1_700_000_000_000) -> list[dict[str, object]]:
    """Rows of statistics as a job would write them, a tenth of them failed, some copied, with values at random."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        row: dict[str, object] = {"path": f"{seed:04d}/{number:05d}.jpg", "node": f"node-{random.integers(3)}"}
        row |= {"shard": seed, "attempt": int(random.integers(1, 3)), "bytes_in": int(random.integers(1, 10**6))}
        row["finished"] = np.datetime64(begin_ms + seed * 10_000 + number * 10, "ms").astype("O")
        row["read_ms"] = float(random.lognormal(1))
        if random.random() < 0.1:
            kind = str(random.choice(["empty", "truncated", "corrupt"]))
            rows.append(row | {"status": "failed", "error_type": kind, "error": f"{kind}: {number}"})
            continue
        row |= {f"{stage}_ms": float(random.lognormal(2)) for stage in ("decode", "enhance", "encode", "write")}
        row |= {name: float(random.random()) / 2 for side in ("in", "out") for name, _ in luma_fields(side)}
        row |= {"output": f"images/{row['path']}", "format": "jpeg", "width": 64, "height": 48, "bytes_out": 100}
        rows.append(row | {"status": "ok" if random.random() < 0.9 else "copied"})
    return rows


def make_run_of_rows(output: Path, shards: int, rows: int) -> Path:
    """An output with statistics and no images, begun but not marked as finished."""
    for shard in range(shards):
        path = output / "commits" / part_name(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved_bytes(make_rows(rows, shard), STATS_SCHEMA, {}))
    counted = {"items": 2 * shards * rows, "bytes": 0, "digest": "0", "notes": [], "ignored": 0, "ignored_examples": []}
    run = {
        "schema_version": SCHEMA_VERSION,
        "command": "enhance",
        "id": "0",
        "sources": {"input": "in"},
        "input": {"uri": "in", "roots": {"input": str(output / "gone")}} | counted,
        "fingerprints": {"the weights": "0"},
        "weights": {"name": "sgllie", "fingerprint": "0"},
        "output_settings": {"method": "sgz", "only_darker_than": None},
        "settings": {"input": "in", "strength": 1.0, "s3": {"endpoint_url": "http://localhost:9000"}},
        "shards": [rows] * 2 * shards,
        "others": [],
        "versions": {"python": "3.11"},
        "begun": "2026-01-01T00:00:00+00:00",
    }
    (output / "run.json").write_text(json.dumps(run))
    return output


class Page(HTMLParser):
    """What an HTML page holds, read as a browser would: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]
