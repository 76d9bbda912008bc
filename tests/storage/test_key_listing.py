"""The keys of a bucket from many places at a time, by a server that is a sorted list."""

import threading
import time
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgllie.errors import StorageError
from sgllie.storage.key_listing import WIDTH, WINDOW, KeyListing, texts_between


class Bucket:
    """Answers ListObjectsV2 as S3 does.

    Attributes:
        hidden: names that take up room on pages and are not told, as those do that only delete markers are left of.
        requests: how many there were.
        most: how many were under way at the same time.
    """

    def __init__(self, keys, page=1000, seconds=0.0, hidden=frozenset()):
        self.keys, self.hidden = sorted({*keys, *hidden}), hidden
        self.page, self.seconds = page, seconds
        self.requests = self.under_way = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, StartAfter="", ContinuationToken="", MaxKeys=1000):  # noqa: N803
        with self.lock:
            self.requests += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(self.seconds)
        start = bisect_right(self.keys, ContinuationToken or StartAfter)
        page = self.keys[start : start + min(self.page, MaxKeys)]
        with self.lock:
            self.under_way -= 1
        truncated = (
            {"IsTruncated": True, "NextContinuationToken": page[-1]} if start + len(page) < len(self.keys) else {}
        )
        return {"Contents": [{"Key": key} for key in page if key not in self.hidden]} | truncated

    def listed(self):
        return [found["Key"] for found in KeyListing(self)]


SHAPES = {
    "tree": [f"in/drive-{number // 100:05d}/frame-{number:08d}.jpg" for number in range(5000)],
    "flat": [f"in/{number:08d}.jpg" for number in range(5000)],
    "hashes": [f"in/{hash((number, 'x')) & (2**64 - 1):016x}" for number in range(5000)],
    "deep": ["in/" + "/".join(f"{number:04d}") + f"/{'n' * 200}{number}" for number in range(5000)],
    "lopsided": [f"in/a/{number}" for number in range(4900)] + [f"in/z{number}/a" for number in range(100)],
    "unicode": [f"in/夜{number:04d}ü" for number in range(2500)] + [f"in/{chr(0x1F600)}{n}" for n in range(2500)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_key_comes_once_and_in_order_and_many_pages_at_a_time(shape):
    bucket = Bucket(SHAPES[shape], page=10, seconds=0.002)
    assert bucket.listed() == sorted(SHAPES[shape])
    assert bucket.most > WIDTH / 2
    assert bucket.requests < 4 * 500


characters = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.text("ab/0", min_size=1)


@given(st.sets(characters, max_size=60), st.integers(1, 5))
def test_whatever_the_keys_are(keys, page):
    assert Bucket(keys, page).listed() == sorted(keys)


@given(st.sets(characters, max_size=60), st.sets(characters, max_size=60), st.integers(1, 5))
def test_whatever_is_hidden_on_pages_that_are_not_the_last(keys, hidden, page):
    assert Bucket(keys | hidden, page, hidden=hidden).listed() == sorted(keys - hidden)


def test_keys_behind_a_long_run_of_what_is_hidden():
    names = SHAPES["flat"]
    hidden = {*names[1000:4000]}
    assert Bucket(names, 10, hidden=hidden).listed() == [*names[:1000], *names[4000:]]


@given(st.sets(st.text("ab/0é夜", min_size=1, max_size=5), min_size=2, max_size=9), st.integers(1, 16))
def test_texts_lie_between(keys, count):
    low, *sample, high = sorted(keys)
    texts = texts_between(low, high, count, [low, *sample])
    assert texts == sorted(set(texts))
    assert all(low < text < high for text in texts)
    assert all(text > low for text in texts_between(low, None, count, [low, *sample]))


def test_a_page_is_one_request():
    bucket = Bucket(["a", "b"])
    assert (bucket.listed(), bucket.requests) == (["a", "b"], 1)
    assert (Bucket([]).listed(), bucket.requests) == ([], 1)
    bucket = Bucket(map(str, range(5000)))
    assert next(iter(KeyListing(bucket)))["Key"] == "0"
    assert bucket.requests == 1


def test_what_is_read_ahead_is_bounded():
    bucket = Bucket((f"{number:06d}" for number in range(20_000)), page=10)
    keys = iter(KeyListing(bucket))
    for _ in range(100):
        next(keys)
        time.sleep(0.005)
    assert bucket.requests < 4 * WINDOW
    assert len(list(keys)) == 20_000 - 100


def test_a_bucket_without_order_is_read_page_by_page():
    bucket = Bucket([])
    bucket.keys = ["b", "a", "d", "c"]
    pages = {"": 2, "a": 4}

    def fetch(ContinuationToken=""):  # noqa: N803
        end = pages[ContinuationToken]
        more = {"IsTruncated": True, "NextContinuationToken": "a"} if end == 2 else {}
        return {"Contents": [{"Key": key} for key in bucket.keys[end - 2 : end]]} | more

    assert [found["Key"] for found in KeyListing(fetch)] == bucket.keys


def test_a_server_that_does_not_know_where_to_start_is_read_page_by_page():
    bucket = Bucket(map(str, range(200)), page=10)
    fetch = lambda StartAfter="", **others: bucket(**others)  # noqa: E731, N803
    assert [found["Key"] for found in KeyListing(fetch)] == bucket.keys


def test_an_order_that_is_lost_on_the_way_is_no_result():
    bucket = Bucket(map(str, range(100)), page=10)

    def fetch(**where):
        page = bucket(**where)
        return page | ({"Contents": page["Contents"][::-1]} if where.get("ContinuationToken") else {})

    with pytest.raises(StorageError, match="not listed in order"):
        list(KeyListing(fetch))


def test_a_request_that_fails_ends_the_listing():
    bucket = Bucket(map(str, range(1000)), page=10)

    def fetch(**where):
        if bucket.requests > 20:
            raise StorageError("gone")
        return bucket(**where)

    with pytest.raises(StorageError, match="gone"):
        list(KeyListing(fetch))
