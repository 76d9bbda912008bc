"""What the rows of an enhancement come to."""

from sgllie.runs.run_file import Json
from sgllie.runs.totals import Tally, Totals, counts_of, mean_of

COUNTED = ("bytes_in", "bytes_out", "retries")
AVERAGED = ("luma_mean_in", "luma_mean_out")

TALLY = Tally(sums=COUNTED, averages=AVERAGED, kinds=("reason", "device"))
OTHERS_TALLY = Tally(sums=("bytes",))


def sums(totals: Totals) -> Json:
    """Return why images were copied, where others were enhanced, bytes and repeated requests, and mean luma."""
    counts = {name: int(totals.get(name, 0)) for name in COUNTED}
    luma = {name: round(mean_of(totals, name), 4) for name in AVERAGED}
    return {"reasons": counts_of(totals, "reason"), "devices": counts_of(totals, "device"), **counts, **luma}


def count_others(totals: Totals) -> Json:
    """Return how many files were carried beside the images, what became of them, and their bytes."""
    counts = {name: int(totals.get(name, 0)) for name in ("copied", "linked", "failed", "bytes")}
    return {"files": int(totals.get("rows", 0))} | counts
