"""The job on one image as a service: image bytes in, image bytes out, over HTTP.

    serve run cluster/serve.yaml
    curl --data-binary @dark.jpg --output bright.jpg http://127.0.0.1:8000/

The bytes are those that the job would write, since the same code makes them. Each replica refuses what it cannot take
on soon, so that clients are told when to come back, and memory does not grow with their number.
"""

import asyncio
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

from ray import serve
from ray.serve import Application
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sgllie.enhance.processor import ImageProcessor, ImageResult
from sgllie.enhance.settings import EnhanceSettings
from sgllie.methods import MethodSettings, describe_weights
from sgllie.runs.schemas import Row
from sgllie.settings import check, check_limits, setting

HEADER = "X-Sgllie-"
MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "bmp": "image/bmp", "tiff": "image/tiff"}
CODES = {"too_large": 413, "memory": 413, "not_an_image": 415, "unsupported": 415, "hdr": 415, "multi_frame": 415}
"""The HTTP status for a kind of failure; 422 for those of damaged files, and 500 for `internal`."""
BATCH_WAIT_SECONDS = 0.005
"""How long the first image of a batch waits for others."""
PIXEL = struct.pack("<2sIIIIiiHHIIiiII3sx", b"BM", 58, 0, 54, 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0, bytes(3))
"""A BMP of one black pixel."""
DISCARDED_BYTES = 200_000_000
"""Of a refused request, at most; one that is larger still may be cut off."""
OPTIONS = frozenset(field.name for field in fields(MethodSettings)) | {
    *("only_darker_than", "format", "quality", "gpu_jpeg", "exif_orientation", "max_pixels", "threads", "worker_memory")
}
"""The options of `sgllie enhance` that are about one image."""
SECONDS_AT_FIRST = 0.1
"""What an image is taken to need before one has been measured."""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What a service has beside the settings of the job."""

    max_megabytes: int = setting(50, least=1)
    """Larger requests are refused with 413."""
    queue: int = setting(16, least=1)
    """Images that one replica has at the same time, waiting ones included; more are refused with 503."""

    def __post_init__(self) -> None:
        check_limits(self)


def build(args: dict[str, Any]) -> Application:
    """Make the application that a Serve config names; of functions with further arguments Serve makes none.

    Args:
        args: as of `parse`, whose errors it has.
    """
    made: Any = Enhancement  # what the decorator makes of the class
    return made.bind(*parse(args))


def parse(args: dict[str, Any]) -> tuple[EnhanceSettings, ServiceSettings]:
    """Return the settings of a service.

    Args:
        args: options of `sgllie enhance` that are about one image, such as `strength`, and those of ServiceSettings.

    Raises:
        UsageError: there is no such option, or its value is wrong.
    """
    own = {field.name for field in fields(ServiceSettings)}
    for name in args:
        check(name in own | OPTIONS, "args", name, "must be an option of sgllie enhance about one image")
    service = ServiceSettings(**{name: value for name, value in args.items() if name in own})
    options = {"device": "cpu"} | {name: value for name, value in args.items() if name in OPTIONS}
    settings = EnhanceSettings("-", "-", **options)
    describe_weights(settings)  # a mistake is told here, once, and not by every replica
    return settings, service


@serve.deployment(max_ongoing_requests=64)
class Enhancement:
    """One replica.

    Args:
        settings: of the job.
        service: of the service.
    """

    def __init__(self, settings: EnhanceSettings, service: ServiceSettings) -> None:
        self.settings, self.service = settings, service
        self.processor = ImageProcessor(settings)
        self.pool = ThreadPoolExecutor(settings.at_once)
        self.at_work = 0
        self.seconds = SECONDS_AT_FIRST
        self.enhance.set_max_batch_size(settings.at_once)  # type: ignore[attr-defined]

    async def __call__(self, request: Request) -> Response:
        """Answer one request: POST an image; GET tells what the service does."""
        if request.method == "GET":
            return JSONResponse(self.description())
        if request.method != "POST":
            return refused(405, "method", "POST the bytes of an image", {"Allow": "GET, POST"})
        if self.at_work >= self.service.queue:
            wait = round(self.at_work * self.seconds / self.settings.at_once) + 1
            sentence = f"{self.at_work} images are waiting already; come back in {wait} s"
            await self.discard(request)
            return refused(503, "busy", sentence, {"Retry-After": str(wait)})
        self.at_work += 1
        try:
            data = await self.body(request)
            if data is None:
                sentence = f"the request has more than {self.service.max_megabytes} MB (max_megabytes)"
                await self.discard(request)
                return refused(413, "too_large", sentence)
            return self.answer(await self.enhance(data))
        finally:
            self.at_work -= 1

    def answer(self, result: ImageResult) -> Response:
        """Return the image of a result, with its statistics in headers; or why there is none."""
        row = result.row
        if result.data is None:
            kind = row["error_type"]
            return refused(500 if kind == "internal" else CODES.get(kind, 422), kind, row["error"])
        is_same = self.settings.format == "same" or row["status"] == "copied"
        kind = row["format"] if is_same else self.settings.format
        return Response(result.data, headers=dict(statistics(row)), media_type=MEDIA_TYPES[kind])

    async def body(self, request: Request) -> bytes | None:
        """Return the bytes of a request; None where they are too many, of which no more than the limit are held."""
        most = self.service.max_megabytes * 10**6
        if int(request.headers.get("content-length") or 0) > most:
            return None
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > most:
                return None
        return bytes(data)

    async def discard(self, request: Request) -> None:
        """Read the rest of a request that is refused, and hold none of it.

        A client that is sending still when its connection is closed finds that fault, and not the answer.
        """
        left = DISCARDED_BYTES
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                return

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=BATCH_WAIT_SECONDS)
    async def enhance(self, images: list[bytes]) -> list[ImageResult]:
        """Enhance images side by side, on a thread each."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        results = await asyncio.gather(*(loop.run_in_executor(self.pool, self.processor, "", data) for data in images))
        self.seconds += (loop.time() - begun - self.seconds) / 10
        return list(results)

    def description(self) -> dict[str, Any]:
        """Return what the service does to an image."""
        names = ("method", "scale_factor", "strength", "only_darker_than", "format", "quality", "max_pixels")
        return {name: getattr(self.settings, name) for name in names} | {"weights": describe_weights(self.settings)}

    async def check_health(self) -> None:
        """Return once a thread is free and has enhanced a pixel; Serve starts another replica where that fails."""
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self.pool, self.processor, "", PIXEL)
        if result.data is None:
            raise RuntimeError(f"this replica cannot enhance: {result.row['error']}")


def statistics(row: Row) -> Iterable[tuple[str, str]]:
    """Yield a header for each column of a row that has a value: `X-Sgllie-Luma-Mean-In: 0.1234`."""
    for name, value in row.items():
        if value is not None:
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            yield HEADER + name.title().replace("_", "-"), text


def refused(code: int, kind: str, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """Return an answer without an image, which says why as JSON."""
    return JSONResponse({"error_type": kind, "error": sentence}, code, headers)
