"""A prefix of an S3 bucket as a `Storage`, through s3fs."""

import io
import itertools
import mimetypes
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import s3fs
from fsspec.asyn import sync

from sgllie.errors import NameRefusedError, ReadError, StorageError, UnreachableError, UsageError
from sgllie.storage.base import SCRATCH, Entry, Paths, S3Options, refuse_large
from sgllie.storage.key_listing import KeyListing, parse_page
from sgllie.storage.object_file import READ_BYTES, ObjectFile
from sgllie.storage.pace import pace_of
from sgllie.storage.requests import count
from sgllie.storage.s3_errors import (
    NO_ANSWER,
    PRECONDITION_FAILED,
    answer_to,
    asks_to_slow_down,
    failure,
    http_status,
    may_pass,
    reason,
)

Answer = TypeVar("Answer")

ATTEMPTS, FIRST_ATTEMPTS = 9, 4
"""At a request; the fewer where nothing has ever answered, since the address may be mistyped."""
FIRST_PAUSE, LONGEST_PAUSE = 0.4, 15.0
"""Seconds, at most, before the second attempt; doubled for each later one up to the longest. At the least half of it is
waited, so that a server may be away for half a minute, as long as it takes to start it again."""
CONNECT_SECONDS, READ_SECONDS = 10, 60
"""How long a connection may take, and how long a server may be silent."""
PART_BYTES = 32 * 2**20
"""Of an object that is written in parts: S3 takes 10,000 of them."""
LARGEST_COPY = 5 * 2**30
"""Bytes of an object that a server copies in one request."""
REMOVALS = 1000
"""Objects that one request may remove."""
SINGLE_REMOVALS = 32
"""Objects that are removed at the same time, each by a request of its own."""
ENCRYPTIONS = {"sse-s3": "AES256", "sse-kms": "aws:kms"}
"""What S3 calls the kinds of encryption."""
CONTENT_TYPES = mimetypes.MimeTypes()
"""Python's own table, whatever the files of this machine say, and what it lacks."""
CONTENT_TYPES.add_type("application/vnd.apache.parquet", ".parquet")
CONTENT_TYPES.add_type("image/webp", ".webp")
CONTENT_TYPES.add_type("video/x-matroska", ".mkv")


class S3Storage:
    """A prefix of a bucket. Faults that may pass are tried again, with pauses that grow, and counted."""

    is_remote = True

    def __init__(self, uri: str, options: S3Options, met: bool = False) -> None:
        self.bucket, _, self.prefix = uri.removeprefix("s3://").rstrip("/").partition("/")
        if not self.bucket:
            raise UsageError(f"{uri}: the name of the bucket is missing (s3://bucket/prefix)")
        self.uri = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self.options = options
        self.pace = pace_of(options.endpoint_url)
        self._repeated = threading.local()
        self._met = met
        self._connection: s3fs.S3FileSystem | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Storage, (self.uri, self.options, True)  # whoever sends it to another process has reached it

    @property
    def retries(self) -> int:
        return getattr(self._repeated, "requests", 0)

    def list(self, folder: str = "", unreadable: Paths | None = None) -> Iterator[Entry]:
        start = self._key(folder).rstrip("/")
        prefix = f"{start}/" if start else ""
        try:
            for found in KeyListing(partial(self._call, "list_objects_v2", self.uri, Prefix=prefix)):
                if not found["Key"].endswith("/"):  # what consoles put to stand for an empty folder
                    yield Entry(found["Key"][len(prefix) :], found["Size"], found["ETag"].strip('"'))
        except FileNotFoundError as error:
            raise StorageError(str(error)) from error

    def read(self, path: str) -> bytes:
        def request(connection: s3fs.S3FileSystem) -> bytes:
            answer = connection.call_s3("get_object", Bucket=self.bucket, Key=self._key(path))
            refuse_large(path, answer["ContentLength"])
            return sync(connection.loop, answer["Body"].read)

        return self._retrying(request, f"{self.uri}/{path}", ReadError)

    def open(self, path: str) -> BinaryIO:
        head = self._head(path)
        # Two versions of an object must not be read as one, should it be replaced meanwhile.
        read_range = partial(self.read_range, IfMatch=head["ETag"])
        return io.BufferedReader(ObjectFile(read_range, path, head["ContentLength"]), READ_BYTES)

    def _head(self, path: str) -> dict[str, Any]:
        """Return the answer to a HEAD request."""
        try:
            return self._call("head_object", f"{self.uri}/{path}", ReadError, Key=self._key(path))
        except ReadError:
            self.read_range(path, 0, 1)  # an answer to HEAD has no body, and so does not say what is refused
            raise

    def read_range(self, path: str, start: int, end: int, **condition: str) -> bytes:
        """Return the bytes of one object from `start` up to, but not including, `end`; ReadError unless it is as asked.

        Args:
            path: of the object.
            start: of the bytes.
            end: of the bytes.
            condition: an argument of GetObject such as `IfMatch`.
        """
        wanted = {"Key": self._key(path), "Range": f"bytes={start}-{end - 1}", **condition}

        def request(connection: s3fs.S3FileSystem) -> bytes:
            answer = connection.call_s3("get_object", Bucket=self.bucket, **wanted)
            return sync(connection.loop, answer["Body"].read)

        return self._retrying(request, f"{self.uri}/{path}", ReadError)

    def upload(self, path: str, file: Path) -> None:
        try:
            with file.open("rb") as opened:
                if os.fstat(opened.fileno()).st_size > PART_BYTES:
                    self.assemble(path, iter(partial(opened.read, READ_BYTES), b""))
                else:
                    self.write(path, opened.read())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ReadError(f"{file} cannot be read: {error.strerror}") from error

    def assemble(self, path: str, parts: Iterable[bytes]) -> None:
        upload = {"UploadId": self._put("create_multipart_upload", path, **self._described(path))["UploadId"]}
        try:
            tags, size = [], 0
            for number, part in enumerate(of_equal_size(parts), start=1):
                answer = self._put("upload_part", path, **upload, PartNumber=number, Body=part)
                tags.append({"ETag": answer["ETag"], "PartNumber": number})
                size += len(part)
            self._complete(path, size, **upload, MultipartUpload={"Parts": tags})
        except BaseException:
            with suppress(StorageError):
                self._put("abort_multipart_upload", path, **upload)
            raise

    def _complete(self, path: str, size: int, **upload: Any) -> None:
        """Complete an upload in parts, of so many bytes."""
        try:
            self._call("complete_multipart_upload", f"{self.uri}/{path}", Key=self._key(path), **upload)
        except FileNotFoundError as error:
            # It may be complete, and so not known any more: the answer to a first attempt may have been lost.
            found = self.find(path)
            if found is None or found.size != size:
                raise StorageError(str(error)) from error

    def copy_from(self, source: "S3Storage", entry: Entry, path: str) -> bool:
        """Have the server copy one object of another bucket or prefix; tell whether it can, which 5 GiB at most are."""
        if source.options != self.options or entry.size is None or entry.size > LARGEST_COPY:
            return False
        origin = {"Bucket": source.bucket, "Key": source._key(entry.path)}
        names = {"Key": self._key(path), "CopySource": origin}
        self._call("copy_object", f"{source.uri}/{entry.path}", ReadError, **names, **self._described(path))
        return True

    def write(self, path: str, data: bytes) -> None:
        self._put("put_object", path, Body=data, **self._described(path))

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._put("put_object", path, Body=data, IfNoneMatch="*", **self._described(path))
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
        below = (f"{path}/{entry.path}" for entry in self.list(path))
        with ThreadPoolExecutor(SINGLE_REMOVALS) as pool:
            names = itertools.chain([path], below)
            while batch := tuple(itertools.islice(names, REMOVALS)):
                for _ in pool.map(self._remove_one, self._remove_many(batch) if len(batch) > 1 else batch):
                    pass

    def _remove_many(self, paths: Sequence[str]) -> Sequence[str]:
        """Remove objects by one request; return those that are left to be removed one by one.

        That is all of them where a server knows no such request, or where XML cannot hold one of the names.
        """
        keys = {self._key(path): path for path in paths}
        try:
            listed = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            answer = self._call("delete_objects", self.uri, Delete=listed)
        except UnreachableError:
            raise
        except StorageError:
            return paths
        return [keys[refused["Key"]] for refused in answer.get("Errors", [])]

    def _remove_one(self, path: str) -> None:
        self._call("delete_object", f"{self.uri}/{path}", Key=self._key(path))

    def _described(self, path: str) -> dict[str, Any]:
        """Return what a request to write an object says of it beside its bytes."""
        said = {"ContentType": CONTENT_TYPES.guess_type(path)[0] or "application/octet-stream"}
        if self.options.storage_class and SCRATCH not in path.split("/"):  # what is soon removed is not worth another
            said["StorageClass"] = self.options.storage_class
        if self.options.encryption:
            said["ServerSideEncryption"] = ENCRYPTIONS[self.options.encryption]
        if self.options.kms_key:
            said["SSEKMSKeyId"] = self.options.kms_key
        return said

    def _key(self, path: str) -> str:
        if ".." in path.split("/"):  # clients and servers disagree on which object that is
            raise NameRefusedError(f"{self.uri}/{path}: a key with '..' in it is not safe to ask for")
        return f"{self.prefix}/{path}" if self.prefix else path

    def _put(self, operation: str, path: str, **arguments: Any) -> dict[str, Any]:
        """Make a request that writes an object; StorageError where the server does not find what it names."""
        try:
            return self._call(operation, f"{self.uri}/{path}", Key=self._key(path), **arguments)
        except FileNotFoundError as error:
            raise StorageError(str(error)) from error

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

        Where the storage asks to slow down, attempts are not counted, for as long as the user is patient.

        Args:
            request: what to do with the connection.
            what: the object or prefix, for sentences.
            otherwise: what to raise where neither the storage as a whole nor the name is at fault.
        """
        faults = repeated = 0
        began = time.monotonic()
        while True:
            turn = self.pace.wait()
            try:
                answer = request(self._connected())
                self._met = True
                return answer
            except ReadError:
                raise
            except Exception as error:
                if asks_to_slow_down(error) and (self._met or answer_to(error)):
                    self.pace.slow_down(turn)
                    goes_on = time.monotonic() - began < self.options.patience
                else:
                    faults += 1
                    attempts = FIRST_ATTEMPTS if isinstance(error, NO_ANSWER) and not self._met else ATTEMPTS
                    goes_on = faults < attempts and may_pass(error)
                if not goes_on:
                    raise self._failure(error, otherwise)(f"{what}: {reason(error)}") from error
            # The pause is drawn at random so that many workers do not come back at the same moment.
            time.sleep(random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(repeated, 10)))
            repeated += 1
            self._repeated.requests = self.retries + 1

    def _failure(self, error: Exception, otherwise: type[StorageError]) -> type[Exception]:
        """Return what to raise for an error that does not pass.

        Where connections are closed without an answer, as a scanner on the way does for one object, another request
        tells whether the storage is at fault.
        """
        if answer_to(error) or not asks_to_slow_down(error):
            return failure(error, otherwise)
        try:
            self._connected().call_s3("list_objects_v2", Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
        except Exception as other:
            return UnreachableError if may_pass(other) else failure(other, otherwise)
        return otherwise

    def _connected(self) -> s3fs.S3FileSystem:
        with self._lock:
            if self._connection is None:
                self._connection = connect(self.options)
            return self._connection


def of_equal_size(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in parts of PART_BYTES; only the last one is smaller."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) > PART_BYTES:
            yield bytes(waiting[:PART_BYTES])
            del waiting[:PART_BYTES]
    yield bytes(waiting)


def connect(options: S3Options) -> s3fs.S3FileSystem:
    """Connect so that everything is tried once: repetition is this module's, where it is counted."""
    connection = s3fs.S3FileSystem(
        anon=options.anonymous,
        profile=options.profile,
        endpoint_url=options.endpoint_url,
        requester_pays=options.requester_pays,
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
    events = connection.s3.meta.events
    # By this name it comes before botocore's own handler of `before-parse.s3.*`.
    events.register_first("before-parse.*.*", parse_page, unique_id="sgllie.parse_page")
    events.register("before-send.s3", count, unique_id="sgllie.count")
    return connection
