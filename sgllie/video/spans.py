"""Where a video is cut into parts."""

import bisect
import itertools
import math
from fractions import Fraction
from typing import NamedTuple

from sgllie.video.reader import VideoReader


class Span(NamedTuple):
    """A part of a video: from a timestamp up to, but not including, another; None is its begin or end."""

    begin: int | None
    end: int | None


WHOLE = Span(None, None)


def cut(reader: VideoReader, seconds: float) -> list[Span]:
    """Cut a video into spans of about `seconds`, at key frames where the container knows them, else by the clock."""
    info = reader.info
    length = math.ceil(Fraction(seconds) / info.time_base)
    if info.duration is None or info.duration < 2 * length:
        return [WHOLE]
    keys = reader.key_times()
    cuts: list[int] = []
    for wanted in range(info.start + length, info.start + info.duration - length // 2, length):
        place = bisect.bisect_left(keys, wanted)
        # An index with few key frames, or none, must not make segments of any length.
        near = place < len(keys) and keys[place] - wanted < length // 2
        cuts.append(keys[place] if near else wanted)
    ends = [None, *cuts, None]
    return [Span(begin, end) for begin, end in itertools.pairwise(ends)]
