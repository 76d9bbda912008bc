"""An HTTP proxy before an S3 server that breaks things on purpose, and remembers what it broke."""

import asyncio
import math
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web
from yarl import URL

SLOW_DOWN = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Reduce rate</Message></Error>'
INTERNAL = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InternalError</Code><Message>Oops</Message></Error>'
NO_UPLOAD = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchUpload</Code><Message>Unknown</Message></Error>'
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}
ON_GET = ("reset_in_body", "truncated_body", "short_stall", "long_stall", "slow_down")
ON_PUT = ("reset_in_upload", "error_after_put", "slow_down")


@dataclass
class Faults:
    """What is to go wrong, and what went wrong.

    Attributes:
        share: of the requests that are broken in one way or another.
        short_stall, long_stall: seconds without a byte in the middle of a body.
        burst: seconds for which all are told to slow down.
        rate: requests/s that are admitted, with bursts of a tenth of a second; all others are told to slow down.
        injected: how often each request was broken: (fault, path of the URL).
    """

    share: float = 0.0
    short_stall: float = 0.3
    long_stall: float = 3.0
    burst: float = 0.5
    rate: float = math.inf
    injected: Counter[tuple[str, str]] = field(default_factory=Counter)

    def kinds(self) -> Counter[str]:
        """How often each fault was injected."""
        counted: Counter[str] = Counter()
        for (kind, _), count in self.injected.items():
            counted[kind] += count
        return counted


class BreakingProxy:
    """Runs on a thread of its own from `start` to `stop`; `faults` may be changed at any time.

    Attributes:
        requests: how many came.
        admitted: when each came that was not told to slow down, by `time.monotonic`.
        headers: of the last request for each method and path.
    """

    def __init__(self, upstream: str, seed: int = 0) -> None:
        self.upstream = upstream
        self.faults = Faults()
        self.endpoint = ""
        self.requests = 0
        self.admitted: list[float] = []
        self.headers: dict[tuple[str, str], Mapping[str, str]] = {}
        self._tokens = 1.0
        self._random = random.Random(seed)
        self._slow_until = 0.0
        self._refusal: tuple[str, int] | None = None
        self._closed: str | None = None
        self._are_completed: bool | None = None
        self._ended: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Listen on a free port of loopback."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(30)

    def stop(self) -> None:
        """Close all connections."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _open(self) -> None:
        self._session = ClientSession(
            auto_decompress=False, timeout=ClientTimeout(60), cookie_jar=DummyCookieJar(), connector_owner=True
        )
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{any:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        bound = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{bound.getsockname()[1]}"
        await web.SockSite(self._runner, bound).start()

    async def _close(self) -> None:
        await self._session.close()
        await self._runner.cleanup()
        cut_off = asyncio.all_tasks() - {asyncio.current_task()}
        for task in cut_off:
            task.cancel()
        await asyncio.gather(*cut_off, return_exceptions=True)

    def _choose(self, request: web.Request) -> str | None:
        """The fault for this request, if any."""
        if time.monotonic() < self._slow_until or not self._has_token():
            return "slow_down"
        self.admitted.append(time.monotonic())
        if self._random.random() >= self.faults.share:
            return None
        fault = self._random.choice(ON_PUT if request.method == "PUT" else ON_GET)
        if fault == "slow_down":
            self._slow_until = time.monotonic() + self.faults.burst
        return fault

    def _has_token(self) -> bool:
        """Take one from a bucket that fills at the admitted rate."""
        if self.faults.rate == math.inf:
            return True
        since = self.admitted[-1] if self.admitted else 0.0
        now = time.monotonic()
        available = min(self._tokens + (now - since) * self.faults.rate, max(self.faults.rate / 10, 1))
        if available >= 1:
            self._tokens = available - 1
        return available >= 1

    def slow_down(self) -> None:
        """Tell everybody to slow down from now on."""
        self._slow_until = math.inf

    def close_connections(self, end: str = "") -> None:
        """Close the connection of each request for a path with this end from now on, without an answer."""
        self._closed = end

    def end_uploads(self, are_completed: bool) -> None:
        """Say of uploads in parts, when they are to be completed, that this went wrong, and then that there are none.

        They are completed or not; in either case they are over, and only the object itself tells which.
        """
        self._are_completed = are_completed

    def refuse(self, code: str, status: int = 403) -> None:
        """Refuse all requests from now on with this code of S3's, as a server does whose keys were changed."""
        self._refusal = (code, status)

    def admit(self) -> None:
        """Refuse nothing any more."""
        self._refusal = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        self.headers[request.method, request.path] = request.headers.copy()
        if self._closed is not None and request.path.endswith(self._closed):
            request.transport.close()
            return web.Response()
        if self._refusal:
            code, status = self._refusal
            body = f"<Error><Code>{code}</Code><Message>No</Message></Error>".encode()
            return web.Response(status=status, body=body, content_type="application/xml")
        fault = self._choose(request)
        if fault:
            self.faults.injected[fault, request.raw_path.partition("?")[0]] += 1
        if fault == "slow_down":
            return web.Response(status=503, body=SLOW_DOWN, content_type="application/xml")
        body = await request.read()
        if self._are_completed is not None and request.method == "POST" and "uploadId" in request.query:
            return await self._end_upload(request, body)
        if fault == "reset_in_upload":
            await self._half_upload(request, body)
            return reset(request)
        status, headers, answer = await self._forward(request, body)
        if fault == "error_after_put":
            return web.Response(status=500, body=INTERNAL, content_type="application/xml")
        return await self._answer(request, status, headers, answer, fault)

    async def _end_upload(self, request: web.Request, body: bytes) -> web.Response:
        upload = request.query["uploadId"]
        if upload in self._ended:
            return web.Response(status=404, body=NO_UPLOAD, content_type="application/xml")
        self._ended.add(upload)
        if self._are_completed:
            await self._forward(request, body)
        return web.Response(status=500, body=INTERNAL, content_type="application/xml")

    async def _forward(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send the request as it came, the host too, which is part of its signature."""
        url = URL(self.upstream + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            return answer.status, kept, await answer.read()

    async def _half_upload(self, request: web.Request, body: bytes) -> None:
        """Send all headers and half of the body to the server, then close."""
        address = URL(self.upstream)
        _, writer = await asyncio.open_connection(address.host, address.port)
        lines = [f"{request.method} {request.raw_path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body[: len(body) // 2])
        await writer.drain()
        writer.close()

    async def _answer(
        self, request: web.Request, status: int, headers: dict[str, str], body: bytes, fault: str | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        if "Content-Length" not in headers:
            response.content_length = len(body)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await response.write(body[: len(body) // 2])
        if fault in ("reset_in_body", "truncated_body"):
            await asyncio.sleep(0.01)  # the first half is on its way
            if fault == "reset_in_body":
                return reset(request, response)
            request.transport.close()
            return response
        if fault in ("short_stall", "long_stall"):
            await asyncio.sleep(getattr(self.faults, fault))
        await response.write(body[len(body) // 2 :])
        await response.write_eof()
        return response


def reset(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Close the connection in such a way that the client is told of a reset."""
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return response or web.Response()
