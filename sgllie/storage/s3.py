"""A prefix of an S3 bucket as a `Storage`, through s3fs."""

import io
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import aiohttp
import s3fs
from botocore.exceptions import (
    BotoCoreError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync

from sgllie.errors import NameRefusedError, ReadError, StorageError, UnreachableError, UsageError
from sgllie.storage.base import Entry, Folders, S3Options, refuse_large
from sgllie.storage.requests import count

Answer = TypeVar("Answer")

ATTEMPTS, FIRST_ATTEMPTS = 9, 4
"""At a request; the fewer where nothing has ever answered, since the address may be mistyped."""
FIRST_PAUSE, LONGEST_PAUSE = 0.4, 15.0
"""Seconds, at most, before the second attempt; doubled for each later one up to the longest. At the least half of it is
waited, so that a server may be away for half a minute, as long as it takes to start it again."""
CONNECT_SECONDS, READ_SECONDS = 10, 60
"""How long a connection may take, and how long a server may be silent."""
READ_BYTES = 4 * 2**20
"""Bytes of a request for a part of an object."""
REMOVALS = 32
"""Objects that are removed at the same time. Not all servers can take the names of many in one request."""
PASSING_CODES = {"RequestTimeout", "IncompleteBody", "BadDigest", "Throttling", "RequestLimitExceeded"}
PASSING_CODES |= {"ConditionalRequestConflict"}
"""Faults on the way that S3 reports like mistakes of the request, with status 400 or 403."""
EVERYTHING_CODES = {
    "NoSuchBucket": "the bucket does not exist",
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is not valid",
    "AuthorizationHeaderMalformed": "the bucket is in another region",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}
"""Answers that would be the same for every object, and what they mean; some servers send only the code."""
PRECONDITION_FAILED = 412
NO_ANSWER = (EndpointConnectionError, ConnectTimeoutError, aiohttp.ClientConnectorError)


class S3Storage:
    """A prefix of a bucket. Faults that may pass are tried again, with pauses that grow, and counted."""

    is_remote = True

    def __init__(self, uri: str, options: S3Options, met: bool = False) -> None:
        self.bucket, _, self.prefix = uri.removeprefix("s3://").rstrip("/").partition("/")
        if not self.bucket:
            raise UsageError(f"{uri}: the name of the bucket is missing (s3://bucket/prefix)")
        self.uri = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self.options = options
        self._repeated = threading.local()
        self._met = met
        self._connection: s3fs.S3FileSystem | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Storage, (self.uri, self.options, True)  # whoever sends it to another process has reached it

    @property
    def retries(self) -> int:
        return getattr(self._repeated, "requests", 0)

    def list(self, folder: str = "", unreadable: Folders | None = None) -> Iterator[Entry]:
        start = self._key(folder).rstrip("/")
        prefix = f"{start}/" if start else ""
        page: dict[str, Any] = {"Prefix": prefix}
        while True:
            try:
                answer = self._call("list_objects_v2", self.uri, **page)
            except FileNotFoundError as error:
                raise StorageError(str(error)) from error
            for found in answer.get("Contents", []):
                if not found["Key"].endswith("/"):  # what consoles put to stand for an empty folder
                    yield Entry(found["Key"][len(prefix) :], found["Size"], found["ETag"].strip('"'))
            if not answer.get("IsTruncated"):
                return
            page["ContinuationToken"] = answer["NextContinuationToken"]

    def read(self, path: str) -> bytes:
        def request(connection: s3fs.S3FileSystem) -> bytes:
            answer = connection.call_s3("get_object", Bucket=self.bucket, Key=self._key(path))
            refuse_large(path, answer["ContentLength"])
            return sync(connection.loop, answer["Body"].read)

        return self._retrying(request, f"{self.uri}/{path}", ReadError)

    def open(self, path: str) -> BinaryIO:
        return io.BufferedReader(ObjectFile(self, path, self._head(path)["ContentLength"]), READ_BYTES)

    def _head(self, path: str) -> dict[str, Any]:
        """Return the answer to a HEAD request."""
        try:
            return self._call("head_object", f"{self.uri}/{path}", ReadError, Key=self._key(path))
        except ReadError:
            self.read_range(path, 0, 1)  # an answer to HEAD has no body, and so does not say what is refused
            raise

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return the bytes of one object from `start` up to, but not including, `end`."""

        def request(connection: s3fs.S3FileSystem) -> bytes:
            wanted = f"bytes={start}-{end - 1}"
            answer = connection.call_s3("get_object", Bucket=self.bucket, Key=self._key(path), Range=wanted)
            return sync(connection.loop, answer["Body"].read)

        return self._retrying(request, f"{self.uri}/{path}", ReadError)

    def upload(self, path: str, file: Path) -> None:
        def request(connection: s3fs.S3FileSystem) -> None:
            connection.put_file(str(file), f"{self.bucket}/{self._key(path)}")

        self._retrying(request, f"{self.uri}/{path}")

    def write(self, path: str, data: bytes) -> None:
        try:
            self._call("put_object", f"{self.uri}/{path}", Key=self._key(path), Body=data)
        except FileNotFoundError as error:
            raise StorageError(str(error)) from error

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._call("put_object", f"{self.uri}/{path}", Key=self._key(path), Body=data, IfNoneMatch="*")
        except FileNotFoundError as error:
            raise StorageError(str(error)) from error
        except StorageError as error:
            if error.__cause__ is None or http_status(error.__cause__) != PRECONDITION_FAILED:
                raise
        try:
            # The answer to a first attempt may have been lost; and some servers know no conditions.
            return self.read(path) == data
        except FileNotFoundError:  # removed by whoever had written it
            return False

    def commit(self, path: str, data: bytes) -> None:
        self.write(path, data)  # a server answers once it is safe

    def find(self, path: str) -> Entry | None:
        try:
            head = self._head(path)
        except FileNotFoundError:
            return None
        return Entry(path, head["ContentLength"], head["ETag"].strip('"'))

    def exists(self, path: str) -> bool:
        return self.find(path) is not None

    def remove(self, path: str) -> None:
        self._delete(path)
        below = (f"{path}/{entry.path}" for entry in self.list(path))
        with ThreadPoolExecutor(REMOVALS) as pool:
            while page := list(itertools.islice(below, 1000)):
                for _ in pool.map(self._delete, page):
                    pass

    def _delete(self, path: str) -> None:
        self._call("delete_object", f"{self.uri}/{path}", Key=self._key(path))

    def _key(self, path: str) -> str:
        if ".." in path.split("/"):  # clients and servers disagree on which object that is
            raise NameRefusedError(f"{self.uri}/{path}: a key with '..' in it is not safe to ask for")
        return f"{self.prefix}/{path}" if self.prefix else path

    def _call(
        self, operation: str, what: str, otherwise: type[StorageError] = StorageError, **arguments: Any
    ) -> dict[str, Any]:
        def request(connection: s3fs.S3FileSystem) -> dict[str, Any]:
            return connection.call_s3(operation, Bucket=self.bucket, **arguments)

        return self._retrying(request, what, otherwise)

    def _retrying(
        self,
        request: Callable[[s3fs.S3FileSystem], Answer],
        what: str,
        otherwise: type[StorageError] = StorageError,
    ) -> Answer:
        """Make a request until it succeeds or no attempt is left.

        Args:
            request: what to do with the connection.
            what: the object or prefix, for sentences.
            otherwise: what to raise where neither the storage as a whole nor the name is at fault.
        """
        attempt = 1
        while True:
            try:
                answer = request(self._connected())
                self._met = True
                return answer
            except ReadError:
                raise
            except Exception as error:
                attempts = FIRST_ATTEMPTS if isinstance(error, NO_ANSWER) and not self._met else ATTEMPTS
                if attempt >= attempts or not may_pass(error):
                    raise failure(error, otherwise)(f"{what}: {reason(error)}") from error
            self._repeated.requests = self.retries + 1
            # The pause is drawn at random so that many workers do not come back at the same moment.
            time.sleep(random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)))
            attempt += 1

    def _connected(self) -> s3fs.S3FileSystem:
        with self._lock:
            if self._connection is None:
                self._connection = connect(self.options)
            return self._connection


class ObjectFile(io.RawIOBase):
    """An object as a file: each read is a request for a range of its bytes."""

    def __init__(self, storage: S3Storage, path: str, size: int) -> None:
        self._storage, self._path, self._size = storage, path, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size)
        if self._position >= end:
            return 0
        data = self._storage.read_range(self._path, self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def connect(options: S3Options) -> s3fs.S3FileSystem:
    """Connect so that everything is tried once: repetition is this module's, where it is counted."""
    connection = s3fs.S3FileSystem(
        anon=options.anonymous,
        profile=options.profile,
        endpoint_url=options.endpoint_url,
        client_kwargs={"region_name": options.region} if options.region else {},
        config_kwargs={
            "retries": {"total_max_attempts": 1},
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "max_pool_connections": 64,
        },
    )
    connection.retries = 1
    # s3fs gives the same connection for the same options, and a request is to be counted once.
    connection.connect().meta.events.register("before-send.s3", count, unique_id="sgllie")
    return connection


def may_pass(error: Exception) -> bool:
    """Tell whether the same request may succeed later: faults of network and server, not of the request."""
    status = http_status(error)
    if status is not None:
        return status >= 500 or status in (408, 429) or code_of(error) in PASSING_CODES
    passing = (*NO_ANSWER, HTTPClientError, ResponseParserError, aiohttp.ClientError, TimeoutError, ConnectionError)
    if isinstance(error, passing):
        return True
    return isinstance(error, OSError) and not isinstance(error, PermissionError | BotoCoreError)


def failure(error: Exception, otherwise: type[StorageError] = StorageError) -> type[Exception]:
    """Return what to raise for an error that does not pass; `otherwise` where it concerns this one request."""
    if code_of(error) in EVERYTHING_CODES or isinstance(error, NO_ANSWER):
        return UnreachableError
    is_bad_request = isinstance(error, ParamValidationError) or (http_status(error) == 400 and not may_pass(error))
    if is_bad_request and otherwise is not ReadError:
        return NameRefusedError
    return FileNotFoundError if isinstance(error, FileNotFoundError) else otherwise


def answer_to(error: BaseException) -> dict[str, Any]:
    """Return the server's answer behind an error that s3fs has translated; empty if it did not answer at all."""
    return getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status of the answer."""
    return answer_to(error).get("ResponseMetadata", {}).get("HTTPStatusCode")


def code_of(error: BaseException) -> str:
    """Return the server's name for the error, such as `NoSuchBucket`."""
    return answer_to(error).get("Error", {}).get("Code", "")


def reason(error: Exception) -> str:
    """Describe what went wrong, in the server's words or ours, without the chain of exceptions."""
    said = answer_to(error).get("Error", {}).get("Message", str(error))
    text = EVERYTHING_CODES.get(code_of(error)) or said or code_of(error) or type(error).__name__
    if isinstance(error, PermissionError):
        return f"{text} (check the credentials and their rights: AWS_ACCESS_KEY_ID, --s3.profile, --s3.anonymous)"
    if isinstance(error, BotoCoreError) and not isinstance(error, HTTPClientError):
        return f"{text.rstrip('.')} (see --s3.profile, --s3.region, --s3.endpoint-url)"
    return text
