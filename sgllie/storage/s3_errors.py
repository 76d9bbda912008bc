"""What the errors of requests to S3 mean: slow down, try again, or what to raise and to say."""

import errno
from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError

from sgllie.errors import NameRefusedError, ReadError, StorageError, UnreachableError

SLOW_DOWN_CODES = {
    "SlowDown",
    "ServiceUnavailable",
    "TooManyRequests",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
}
"""Ask for fewer requests, whatever the status: a long operation says 200 first, and the error later."""
SLOW_DOWN_STATUSES = (429, 503)
"""Ask for fewer requests, whatever the code: an answer to HEAD has none, and gateways have their own."""
RESET_ERRORS = {errno.ECONNRESET, errno.EPIPE}
"""Of connections that the other side has closed, as servers and what stands before them do under too much load."""
PASSING_CODES = {"RequestTimeout", "IncompleteBody", "BadDigest", "ConditionalRequestConflict"}
"""Faults on the way that S3 reports like mistakes of the request, with status 400 or 403."""
EVERYTHING_CODES = {
    "NoSuchBucket": "the bucket does not exist",
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is not valid",
    "AuthorizationHeaderMalformed": "the bucket is in another region",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "InvalidStorageClass": "the storage class is not known there (see --s3.storage-class)",
    "KMS.NotFoundException": "the key of the encryption does not exist (see --s3.kms-key)",
    "KMS.DisabledException": "the key of the encryption is disabled (see --s3.kms-key)",
}
"""Answers that would be the same for every object, and what they mean; some servers send only the code."""
PRECONDITION_FAILED = 412
"""The object is not the one that was meant: it is there already, or has been replaced."""
NO_ANSWER = (EndpointConnectionError, ConnectTimeoutError, aiohttp.ClientConnectorError)
"""Nobody is there, or nobody answers."""


def asks_to_slow_down(error: BaseException) -> bool:
    """Tell whether an endpoint asks for fewer requests: it says so, or closes connections that are in use."""
    if answer_to(error):
        return http_status(error) in SLOW_DOWN_STATUSES or code_of(error) in SLOW_DOWN_CODES
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return any(
        isinstance(cause, aiohttp.ServerDisconnectedError) or getattr(cause, "errno", None) in RESET_ERRORS
        for cause in causes
    )


def may_pass(error: Exception) -> bool:
    """Tell whether the same request may succeed later: faults of network and server, not of the request."""
    status = http_status(error)
    if status is not None:
        return status >= 500 or status == 408 or code_of(error) in PASSING_CODES or asks_to_slow_down(error)
    passing = (*NO_ANSWER, HTTPClientError, ResponseParserError, aiohttp.ClientError, TimeoutError, ConnectionError)
    if isinstance(error, passing):
        return True
    return isinstance(error, OSError) and not isinstance(error, PermissionError | BotoCoreError)


def failure(error: Exception, otherwise: type[StorageError] = StorageError) -> type[Exception]:
    """Return what to raise for an error that does not pass; `otherwise` where it concerns this one request."""
    if code_of(error) in EVERYTHING_CODES or asks_to_slow_down(error) or isinstance(error, NO_ANSWER):
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
    if http_status(error) == PRECONDITION_FAILED:
        return "it was replaced while it was being read"
    if asks_to_slow_down(error):
        done = "asked to slow down" if answer_to(error) else "closed the connections"
        return f"{text} (it has {done} for longer than --s3.patience)"
    if isinstance(error, PermissionError):
        return f"{text} (check the credentials and their rights: AWS_ACCESS_KEY_ID, --s3.profile, --s3.anonymous)"
    if isinstance(error, BotoCoreError) and not isinstance(error, HTTPClientError):
        return f"{text.rstrip('.')} (see --s3.profile, --s3.region, --s3.endpoint-url)"
    return text
