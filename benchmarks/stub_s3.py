"""An S3 server that invents its objects, for buckets that a real one would take hours to fill.

    python benchmarks/stub_s3.py [--keys 1000000] [--delay 0.05] [--rate 100]

Prints its address, and serves until its standard input ends.
"""

import argparse
import asyncio
import math
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from subprocess import PIPE

from aiohttp import web

PAGE = """<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Name>bucket</Name><KeyCount>{count}</KeyCount><IsTruncated>{truncated}</IsTruncated>{token}{contents}
</ListBucketResult>"""
OBJECT = """<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>
<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>12345</Size><StorageClass>STANDARD</StorageClass></Contents>"""
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class Stub:
    """Answers ListObjectsV2 and GET, a fixed time later, and refuses what exceeds a rate.

    Args:
        keys: how many objects there are below `in/`, a thousand in each folder.
        delay: seconds until an answer.
        rate: requests/s that are admitted, with bursts of a tenth of a second.
    """

    def __init__(self, keys: int, delay: float, rate: float) -> None:
        self.keys, self.delay, self.rate = keys, delay, rate
        self.tokens, self.filled = 1.0, 0.0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        if not self.admits():
            return web.Response(status=503, body=SLOW_DOWN, content_type="application/xml")
        await asyncio.sleep(self.delay)
        if "list-type" not in request.query:
            return web.Response(body=bytes(1000))
        return web.Response(text=self.page(request.query), content_type="application/xml")

    def admits(self) -> bool:
        """Tell whether a request is within the rate."""
        if self.rate == math.inf:
            return True
        now = time.monotonic()
        self.tokens = min(self.tokens + (now - self.filled) * self.rate, max(self.rate / 10, 1))
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def page(self, query: Mapping[str, str]) -> str:
        """Return a page of the listing."""
        first = int(query.get("continuation-token", 0))
        if "start-after" in query:
            first = bisect_right(range(self.keys), query["start-after"], key=key_of)
        end = min(first + int(query.get("max-keys", 1000)), self.keys)
        return PAGE.format(
            count=end - first,
            truncated="true" if end < self.keys else "false",
            token=f"<NextContinuationToken>{end}</NextContinuationToken>" if end < self.keys else "",
            contents="".join(OBJECT.format(key=key_of(number)) for number in range(first, end)),
        )


def key_of(number: int) -> str:
    """Return the key of an object."""
    return f"in/drive-{number // 1000:05d}/frame-{number:08d}.jpg"


async def serve(stub: Stub) -> None:
    """Serve on a free port until standard input ends."""
    application = web.Application()
    application.router.add_route("*", "/{any:.*}", stub.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


@contextmanager
def running(**options: float) -> Iterator[str]:
    """Run a server beside this process; its address. The options are those of the command line."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = subprocess.Popen([sys.executable, __file__, *words], stdin=PIPE, stdout=PIPE, text=True)
    with process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.communicate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--rate", type=float, default=math.inf)
    arguments = parser.parse_args()
    asyncio.run(serve(Stub(arguments.keys, arguments.delay, arguments.rate)))
