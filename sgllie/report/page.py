"""The page itself: what is said about a run, put into the template `page.html`."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from markupsafe import Markup

from sgllie.corpus.packed import packed
from sgllie.errors import StorageError, UsageError
from sgllie.report import charts, document
from sgllie.report.aggregates import STAGES, Aggregates, aggregate
from sgllie.report.distribution import Distribution
from sgllie.report.gallery import gallery
from sgllie.report.settings import ReportSettings
from sgllie.runs import cost
from sgllie.runs.commits import advising, commit_tables
from sgllie.runs.names import REPORT, RUN, SUCCESS
from sgllie.runs.run_file import ENHANCE_KINDS, read_result, read_run
from sgllie.runs.schemas import STATS_SCHEMA
from sgllie.runs.words import size
from sgllie.storage import SCRATCH, Storage, open_storage

MEASURES = {
    "luma_mean": "Mean brightness",
    "luma_p5": "Dark parts (5th percentile)",
    "luma_p50": "Median brightness",
    "luma_p95": "Bright parts (95th percentile)",
    "contrast": "Contrast",
    "entropy": "Entropy, bits",
    "luma_clipped": "Clipped luma (pixels wholly black or white)",
}
MOST_NODES = 20


def write_report(settings: ReportSettings) -> str:
    """Write OUT/report.html; its path or uri is returned.

    Raises:
        UsageError: there is no enhancement run in OUT.
        StorageError: the output cannot be read or written.
    """
    output = packed(open_storage(settings.output, settings.s3))
    run = read_run(output, "enhance", ENHANCE_KINDS)
    if run is None:
        raise UsageError(f"there is no run in {settings.output}: it has no {RUN}. OUT is the output of sgllie enhance")
    with advising(output):
        aggregates = aggregate(commit_tables(output, STATS_SCHEMA))
    finished = output.exists(SUCCESS) and aggregates.status.total() == run["input"]["items"]  # a commit may be gone
    html = render(run, aggregates, output, source_of(run, settings), finished)
    output.write(REPORT, html.encode())
    if finished:
        output.remove(SCRATCH)  # no job is using it
    return f"{output.uri}/{REPORT}"


def described_cost(run: dict[str, Any], output: Storage) -> str:
    """Say what a finished run cost; nothing where its result does not tell."""
    try:
        result = read_result(output) or {}
        return cost.describe(result, result["images"], cost.Prices(**run["settings"].get("price", {})))
    except (KeyError, TypeError):
        return ""


def source_of(run: dict[str, Any], settings: ReportSettings) -> Storage | None:
    """Return the input of a run, if it can be opened."""
    try:
        return packed(open_storage(run["input"]["roots"]["input"], settings.s3))
    except (UsageError, StorageError):
        return None


def render(run: dict[str, Any], aggregates: Aggregates, output: Storage, source: Storage | None, finished: bool) -> str:
    """Return the whole page as HTML."""
    groups, pictures = gallery(aggregates, output, source)
    bars = aggregates.timeline.bars(80)
    return document.render(
        __package__,
        "page",
        {"number": number, "decimals": decimals, "size": size},
        run=run,
        output=output.uri,
        finished=finished,
        cost=described_cost(run, output) if finished else "",
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        aggregates=aggregates,
        images=aggregates.status.total(),
        groups=groups,
        pictures=pictures,
        bars=bars,
        charts=drawn(aggregates, bars),
        measures=measures(aggregates),
        stages=stages(aggregates),
        nodes=aggregates.nodes.most_common(MOST_NODES),
        settings=flat({name: value for name, value in run["settings"].items() if name not in ("input", "output")}),
        bar=charts.bar,
    )


def drawn(aggregates: Aggregates, bars: Any) -> dict[str, Markup]:
    """Draw the charts; return them by their names."""
    found: dict[str, Markup] = {}
    for name, highest in (("luma_mean", 1.0), ("contrast", 0.5)):
        before, after = aggregates.brightness[f"{name}_in"], aggregates.brightness[f"{name}_out"]
        label = f"{MEASURES[name]} of the images. Before: {spread(before)}. After: {spread(after)}."
        coarse = [distribution.counts.reshape(50, -1).sum(axis=1).tolist() for distribution in (before, after)]
        found[name] = charts.histogram(coarse[0], coarse[1], highest, label)
    found["response"] = charts.response(aggregates.grid, "Mean brightness before and after, image by image.")
    if bars.rate:
        found["throughput"] = charts.throughput(bars, f"Images per second over time, {bars.rate:,.1f} on average.")
    return found


def measures(aggregates: Aggregates) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the title of each measure and, before and after, its mean and what nine in ten images lie between."""
    found = aggregates.brightness
    return [
        (title, [(number(found[f"{name}_{side}"].mean), between(found[f"{name}_{side}"])) for side in ("in", "out")])
        for name, title in MEASURES.items()
    ]


def between(distribution: Distribution) -> str:
    """Say what nine in ten values lie between."""
    return f"{number(distribution.quantile(0.05))} to {number(distribution.quantile(0.95))}"


def spread(distribution: Distribution) -> str:
    """Put a distribution into words."""
    return f"mean {number(distribution.mean)}, nine in ten images from {between(distribution)}"


def stages(aggregates: Aggregates) -> list[dict[str, Any]]:
    """Return the milliseconds of each stage, and its share of the time of all."""
    total = sum(aggregates.stages[stage].total for stage in STAGES)
    return [
        {
            "name": stage,
            "mean": found.mean,
            "median": found.quantile(0.5),
            "p95": found.quantile(0.95),
            "share": found.total / total if total else 0.0,
        }
        for stage, found in aggregates.stages.items()
    ]


def flat(settings: dict[str, Any], prefix: str = "--") -> dict[str, Any]:
    """Return settings as the options of the command line; nested ones as `--s3.region`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        option = prefix + name.replace("_", "-")
        found |= flat(value, f"{option}.") if isinstance(value, dict) else {option: value}
    return found


def number(value: float | None) -> str:
    """Write about three digits of a value that is not negative."""
    if value is None or not np.isfinite(value):
        return "–"
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def decimals(value: float | None) -> str:
    """Write two digits behind the point."""
    return "–" if value is None else f"{value:.2f}"
