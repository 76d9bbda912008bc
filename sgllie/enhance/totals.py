"""What the rows of an enhancement come to."""

from sgllie.runs.run_file import Json
from sgllie.runs.totals import Tally, Totals

COUNTED = ("bytes_in", "bytes_out", "retries")
AVERAGED = ("luma_mean_in", "luma_mean_out")

TALLY = Tally(sums=COUNTED, good_sums=AVERAGED)


def sums(totals: Totals) -> Json:
    """Return bytes and repeated requests of all images, and the mean luma of those that did not fail."""
    good = totals.get("ok", 0) + totals.get("copied", 0)
    counts = {name: int(totals[name]) for name in COUNTED}
    return counts | {name: round(totals.get(name, 0) / max(good, 1), 4) for name in AVERAGED}
