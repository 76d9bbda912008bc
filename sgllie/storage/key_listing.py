"""The keys of a bucket below a prefix, in order, read from many places at a time.

S3 tells keys a thousand at a time, in the order of their code points, and a request may name any text that they are to
come after. So the keys can be cut into ranges that are read beside each other, each page by page as ever; where a cut
is made changes how long it takes, never what is found. Where to cut is not known beforehand: texts that lie between two
keys are tried, and the first key after each is asked for. Trees and flat prefixes are the same to that.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import pairwise
from queue import SimpleQueue
from string import digits
from typing import Any
from xml.parsers.expat import ExpatError, ParserCreate

from sgllie.errors import StorageError

WIDTH = 32
"""Requests at the same time."""
MOST_TEXTS = 8
"""Texts that are tried at the same time within one range."""
LONG = 4
"""Pages of a range after which it is worth to try texts in it: there may be many more."""
WINDOW = 128
"""Pages that are read ahead of the first range whose keys are still missing."""
PLACES = 64
"""Characters after those that two keys share which decide where between them a text lies."""
SAMPLE = 50
"""Keys of a page by which it is told what keys look like."""

Page = dict[str, Any]
"""The answer to ListObjectsV2."""
Fetch = Callable[..., Page]
"""Asks for a page, given the arguments of ListObjectsV2 without bucket and prefix."""


class Range:
    """The keys after one text, up to and including another.

    Attributes:
        reached: no key up to this one is still to be read.
        until: the last key that may belong to it; None where only the prefix ends it.
        token: where the next page begins; None before the first one.
        pages: what was read and not yet handed on.
        is_busy: whether a page is under way.
        is_read: whether all was read.
        is_tried: whether texts within it are being tried.
        sample: some of the keys of the page that was read last.
        untried: pages that were read since texts were tried last.
    """

    def __init__(self, after: str, until: str | None, token: str | None = None) -> None:
        self.reached = after
        self.until = until
        self.token = token
        self.pages: deque[list[dict[str, Any]]] = deque()
        self.is_busy = self.is_read = self.is_tried = False
        self.sample: list[str] = []
        self.untried = 0

    @property
    def start(self) -> dict[str, str]:
        """What a request for the next page says."""
        return {"StartAfter": self.reached} if self.token is None else {"ContinuationToken": self.token}

    def take(self, page: Page) -> None:
        """Take in the next page; StorageError where its keys are not in order."""
        found = page.get("Contents", [])
        keys = [one["Key"] for one in found]
        if not are_ascending([self.reached, *keys]):
            raise StorageError("its keys are not listed in order, and so cannot be read from several places")
        self.reached = keys[-1] if keys else self.reached
        self.sample = keys[:: max(len(keys) // SAMPLE, 1)]
        self.token = page.get("NextContinuationToken")
        self.is_read = not page.get("IsTruncated")
        if self.until is not None and self.reached > self.until:
            found = [one for one in found if one["Key"] <= self.until]
            self.is_read = True
        self.pages.append(found)
        self.is_busy = False
        self.untried += 1

    def cut(self, texts: dict[str, str | None]) -> "list[Range]":
        """Cut what is still to be read at texts that have keys on both sides; return the parts behind the first cut.

        Args:
            texts: for each, in order, the first key after it, if there is any.
        """
        cuts: dict[str, str] = {}
        for text, key in texts.items():
            if key is None or (self.until is not None and key > self.until):
                self.until, self.untried = text, LONG - 1  # nothing lies behind it: there are better texts now
                break
            if text > self.reached:
                cuts[key] = text  # of two with nothing between them, the latter
        bounds = [*cuts.values(), self.until]
        if cuts:
            self.until = bounds[0]
        return [Range(after, until) for after, until in pairwise(bounds) if after is not None]


class KeyListing:
    """Lists keys in order. What fits on a page is one request.

    Args:
        fetch: asks for a page.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._ranges: list[Range] = []
        self._under_way = 0
        self._can_cut = True
        self._answers: SimpleQueue[tuple[Callable[[Any], None], Future[Any]]] = SimpleQueue()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield what ListObjectsV2 says of each key."""
        page = self._fetch()
        found = page.get("Contents", [])
        yield from found
        if not page.get("IsTruncated"):
            return
        keys = [one["Key"] for one in found]
        self._can_cut = bool(keys) and are_ascending(keys)
        if not self._can_cut:  # a directory bucket, which has no order
            yield from self._page_by_page(page)
            return
        self._ranges = [Range(keys[-1], None, page["NextContinuationToken"])]
        self._ranges[0].untried, self._ranges[0].sample = LONG, keys
        pool = ThreadPoolExecutor(WIDTH)
        try:
            yield from self._range_by_range(pool)
        finally:
            pool.shutdown(cancel_futures=True)

    def _page_by_page(self, page: Page) -> Iterator[dict[str, Any]]:
        while page.get("IsTruncated"):
            page = self._fetch(ContinuationToken=page["NextContinuationToken"])
            yield from page.get("Contents", [])

    def _range_by_range(self, pool: ThreadPoolExecutor) -> Iterator[dict[str, Any]]:
        while self._ranges:
            self._ask(pool)
            first = self._ranges[0]
            if first.pages:
                yield from first.pages.popleft()
            elif first.is_read and not first.is_tried:
                self._ranges.pop(0)
            else:
                self._take_in()
            while not self._answers.empty():
                self._take_in()

    def _take_in(self) -> None:
        """Wait for the next answer."""
        take, answer = self._answers.get()
        self._under_way -= 1
        take(answer.result())

    def _ask(self, pool: ThreadPoolExecutor) -> None:
        """Have requests under way: for pages, and with what is left for texts at which ranges may be cut."""
        ahead = 0
        window: list[Range] = []
        for part in self._ranges:
            if ahead >= WINDOW:
                break
            window.append(part)
            if self._under_way < WIDTH and not (part.is_busy or part.is_read):
                part.is_busy = True
                self._send(pool, partial(self._fetch, **part.start), part.take)
            ahead += len(part.pages) + part.is_busy
        for part in window:
            idle = WIDTH - self._under_way
            if idle > 1 and self._can_cut and part.untried >= LONG and not (part.is_tried or part.is_read):
                self._try_texts(pool, part, min(idle, MOST_TEXTS))

    def _send(self, pool: ThreadPoolExecutor, request: Callable[[], Any], take: Callable[[Any], None]) -> None:
        self._under_way += 1
        pool.submit(request).add_done_callback(lambda answer: self._answers.put((take, answer)))

    def _try_texts(self, pool: ThreadPoolExecutor, part: Range, count: int) -> None:
        """Ask for the first key after each of some texts, and cut the range when all are known."""
        part.untried = 0
        texts: dict[str, str | None] = dict.fromkeys(texts_between(part.reached, part.until, count, part.sample))
        missing = set(texts)

        def take(text: str, page: Page) -> None:
            missing.remove(text)
            key = texts[text] = next((one["Key"] for one in page.get("Contents", [])), None)
            if key is None and page.get("IsTruncated"):  # only delete markers, say: keys may lie behind them
                del texts[text]
            if key is not None and key <= text:  # a server that does not know StartAfter
                self._can_cut = False
            if not missing:
                part.is_tried = False
                place = self._ranges.index(part) + 1
                self._ranges[place:place] = part.cut(texts) if self._can_cut else []

        for text in texts:
            part.is_tried = True
            self._send(pool, partial(self._fetch, StartAfter=text, MaxKeys=1), partial(take, text))


def are_ascending(keys: list[str]) -> bool:
    """Tell whether each key comes after the one before it."""
    return all(before < after for before, after in pairwise(keys))


def texts_between(low: str, high: str | None, count: int, sample: Sequence[str]) -> list[str]:
    """Return up to so many texts between two others, spread evenly over what keys may look like.

    A text is taken for a number: each character for a digit, its place among the characters that keys have there.

    Args:
        low: a key.
        high: a key or text after it; None for the end of all keys.
        count: texts that are wanted.
        sample: keys near the first of the two.
    """
    shared = 0 if high is None else shared_characters(low, high)
    columns = zip(*sample, strict=False)
    alphabets = [sorted({*column, *(digits if {*column} & {*digits} else "")}) for column in columns]
    used = alphabets[shared : shared + PLACES]
    values = [math.prod(map(len, used[place + 1 :])) for place in range(len(used))]

    def number(text: str) -> int:
        places = zip(text[shared:], used, values, strict=False)
        return sum(min(bisect_left(alphabet, one), len(alphabet) - 1) * value for one, alphabet, value in places)

    def text(number: int) -> str:
        places = zip(used, values, strict=True)
        return low[:shared] + "".join(alphabet[number // value % len(alphabet)] for alphabet, value in places)

    first, last = number(low), math.prod(map(len, used)) - 1 if high is None else number(high)
    texts = {text(first + (last - first) * step // (count + 1)) for step in range(1, count + 1)}
    return sorted(one for one in texts if low < one and (high is None or one < high))


def shared_characters(one: str, other: str) -> int:
    """Count the characters with which both texts begin."""
    differing = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))


def parse_page(
    operation_model: Any, response_dict: dict[str, Any], customized_response_dict: Page, **_: object
) -> None:
    """Parse the answer to ListObjectsV2 in the place of botocore, which takes many times as long, for dates that nobody
    asks for, and parses every answer once more to look for errors that say 200.

    A handler of its event `before-parse`: what it puts into `customized_response_dict` becomes the answer. Errors, and
    what is no listing, are left to botocore.
    """
    if operation_model.name != "ListObjectsV2" or response_dict["status_code"] != 200:
        return
    with suppress(ExpatError):
        page = page_of(response_dict["body"])
        if page is not None:
            customized_response_dict.update(page)
            response_dict["body"] = b""


def page_of(body: bytes) -> Page | None:
    """Return what a page says; None where it is no page, or of another form than S3's.

    No tree is made of it: its thousands of elements would have Python's garbage collector go through all that the
    process holds every few pages, which was measured to take as long as all else.
    """
    found: list[dict[str, Any]] = []
    values: dict[str, str] = {}
    text: list[str] = []

    def begin(_name: str, _attributes: object) -> None:
        text.clear()

    def end(name: str) -> None:
        if name == "Contents":
            key, size, etag = (values.pop(part, "") for part in ("Key", "Size", "ETag"))
            found.append({"Key": key, "Size": int(size or 0), "ETag": etag})
        else:
            values[name] = "".join(text)

    parser = ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, text.append
    parser.Parse(body, True)
    if "ListBucketResult" not in values:
        return None
    told = {name: values[name] for name in ("EncodingType", "NextContinuationToken") if values.get(name)}
    return {**told, "IsTruncated": values.get("IsTruncated") == "true", "Contents": found}
