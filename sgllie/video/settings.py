"""The settings of `sgllie video`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from sgllie.runs.settings import CorpusSettings
from sgllie.settings import check, setting

Codec = Literal["h264", "h265", "ffv1"]
Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]

TEMPORAL_SMOOTHING = 0.9

MANY_THREADS = 8
"""Of an encoder, up to which its memory is that of the pictures that it looks ahead."""


@dataclass(frozen=True)
class Encoding:
    """How videos are encoded."""

    codec: Codec = "h264"
    """Codec of the output. ffv1 is lossless, and stores RGB."""
    crf: int = setting(18, least=0, most=51)
    """Constant rate factor of h264 and h265: 0 is best, 51 worst."""
    # Noise that was invisible in the dark is most of what is encoded, and slower presets gain little on noise: medium
    # took twice the time for a file of the same size.
    preset: Preset = "veryfast"
    """Preset of h264 and h265, from ultrafast to veryslow: how long the encoder searches for a smaller file."""
    threads: int = setting(2, least=1)
    """Threads of the decoder and of the encoder in one worker."""

    @property
    def is_costly(self) -> bool:
        """Whether the encoder holds many more pictures than usual: it looks far ahead, or works on many at a time."""
        return self.codec != "ffv1" and (self.preset in ("slow", "slower", "veryslow") or self.threads > MANY_THREADS)


@dataclass(frozen=True)
class VideoSettings(Encoding, CorpusSettings):
    """Brighten a video, or every video of a folder, bucket or list, without flicker.

    Size, timestamps, rotation, colour tags, sound, subtitles and metadata are kept. The same command again goes on
    where it was stopped.
    """

    input: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IN")] = setting(changes_output=False)
    """One video, or a folder, s3://bucket/prefix, glob in quotes, or list (.txt, or .csv, .jsonl, .parquet with a
    column `path`)."""
    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")] = setting(changes_output=False)
    """For one video the file to write (.mp4, .m4v, .mov, .mkv, .ts), beside which a hidden folder says that it is done;
    else a folder or s3://bucket/prefix that becomes videos/, stats/, segments/, frames/, manifest/, run.json and
    _SUCCESS."""

    temporal_smoothing: float = TEMPORAL_SMOOTHING
    """Weight of the past in the factor map of each frame; 0 enhances each frame by itself."""
    force_sdr: bool = False
    """Enhance HDR video (PQ, HLG) as if its values were SDR, instead of refusing it."""
    segment_seconds: float = 60.0
    """Longer videos are cut at key frames into segments of about this length, which are enhanced in parallel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        smoothing = self.temporal_smoothing
        check(0 <= smoothing < 1, "--temporal-smoothing", smoothing, "must be at least 0 and less than 1")
        check(self.segment_seconds > 0, "--segment-seconds", self.segment_seconds, "must be more than 0")
