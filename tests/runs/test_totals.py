"""What rows come to, whatever order they come in."""

from hypothesis import given
from hypothesis import strategies as st

from sgllie.runs.totals import Tally, add_up, counts_of, mean_of, outcome_counts

ROWS = st.fixed_dictionaries(
    {"status": st.sampled_from(["ok", "copied", "failed"]), "error_type": st.sampled_from(["crash", "truncated", "io"])}
    | {"bytes_in": st.none() | st.integers(0, 10**9), "luma_mean_in": st.none() | st.sampled_from([0.25, 0.5])}
    | {"reason": st.none() | st.sampled_from(["bright enough: 0.5", "bright enough: 0.6", "label map by name: masks"])}
)
TALLY = Tally(sums=("bytes_in",), averages=("luma_mean_in",), kinds=("reason",))


@given(st.lists(ROWS, max_size=20), st.integers(0, 20), st.randoms(use_true_random=False))
def test_parts_in_any_order_come_to_the_same(rows, cut, random):
    shuffled = random.sample(rows, len(rows))
    together = add_up([TALLY(shuffled[:cut]), TALLY(shuffled[cut:])])
    whole = TALLY(rows)
    assert {name: together.get(name, 0) for name in whole} == whole
    one, other = outcome_counts(together), outcome_counts(whole)
    assert one == other
    assert list(one["errors"]) == list(other["errors"]), "a sentence is made of them in their order"


def test_what_failed_has_no_luma_and_counts_by_its_kind():
    rows = [{"status": "failed", "error_type": kind, "luma_mean_in": 0.5, "bytes_in": 3} for kind in ("io", "crash")]
    rows.append({"status": "ok", "error_type": None, "luma_mean_in": 0.25, "bytes_in": None})
    totals = TALLY(rows)
    assert (totals["bytes_in"], totals["luma_mean_in"]) == (6, 0.25)
    assert outcome_counts(totals) == {"images": 3, "ok": 1, "copied": 0, "failed": 2, "errors": {"crash": 1, "io": 1}}


def test_means_are_over_the_rows_that_have_a_value_and_reasons_over_what_was_copied():
    rows = [
        {"status": "ok", "error_type": None, "luma_mean_in": 0.25},
        {"status": "copied", "reason": "map: 19 values"},
    ]
    rows += [
        {"status": "copied", "reason": "map: 3 values"},
        {"status": "failed", "error_type": "io", "reason": "map: 3"},
    ]
    totals = TALLY(rows)
    assert (mean_of(totals, "luma_mean_in"), counts_of(totals, "reason")) == (0.25, {"map": 2})
    assert mean_of(TALLY([]), "luma_mean_in") == 0
