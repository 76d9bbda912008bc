"""Sound that a container cannot hold, encoded anew as AAC."""

from collections.abc import Iterator
from typing import Any

import av

RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""The sampling rates of AAC (ISO/IEC 14496-3, table 1.18)."""
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0"}
"""By the number of channels; more than five become 5.1. Some files do not say where theirs belong."""


class SoundConverter:
    """Encodes the sound of one stream anew, with the times that it has.

    Args:
        output: gets the stream.
        original: the stream of sound, whose codec FFmpeg can decode.

    Attributes:
        stream: of the output.
    """

    def __init__(self, output: av.container.OutputContainer, original: Any) -> None:
        self.original = original
        rate = min((known for known in RATES if known >= original.sample_rate), default=RATES[0])
        layout = LAYOUTS.get(original.channels, "5.1")
        self.resampler = av.AudioResampler("fltp", layout, rate)
        self.stream: Any = output.add_stream("aac", rate=rate, layout=layout)

    def convert(self, packet: av.Packet) -> Iterator[av.Packet]:
        """Yield the packets that are complete once another one has been decoded; none are where it is damaged."""
        try:
            frames = self.original.decode(packet)
        except av.FFmpegError:
            return
        for frame in frames:
            for samples in self.resampler.resample(frame):
                yield from self.stream.encode(samples)

    def flush(self) -> Iterator[av.Packet]:
        """Yield the packets that are left at the end."""
        for samples in self.resampler.resample(None):
            yield from self.stream.encode(samples)
        yield from self.stream.encode(None)
