"""What the rows of videos come to."""

from collections.abc import Iterable
from dataclasses import dataclass

from sgllie.runs.run_file import Json
from sgllie.runs.schemas import Row
from sgllie.runs.totals import Tally, Totals, outcome_counts

LUMA = ("luma_mean_in", "luma_mean_out")


@dataclass(frozen=True)
class VideosTally(Tally):
    """How the rows of videos become totals: brightness is that of their frames, and `left_out` counts videos."""

    def __call__(self, rows: Iterable[Row]) -> Totals:
        """Return the totals of some rows."""
        return super().__call__(
            row | {name: row[name] * row["frames"] for name in LUMA} | {"left_out": 1 if row.get("left_out") else None}
            for row in rows
        )


VIDEOS_TALLY = VideosTally(sums=("bytes_in", "bytes_out"), averages=("frames", "repeated", "left_out", *LUMA))


def sums(totals: Totals) -> Json:
    """Return how many videos there are, what became of them, and the frames, mean luma and bytes of all together."""
    counts = outcome_counts(totals)
    frames = totals.get("frames", 0)
    return {
        "videos": counts["images"],
        **{name: counts[name] for name in ("ok", "failed", "errors")},
        **{name: int(totals.get(name, 0)) for name in ("frames", "repeated", "bytes_in", "bytes_out")},
        **{name: round(totals.get(name, 0) / max(frames, 1), 4) for name in LUMA},
    }
