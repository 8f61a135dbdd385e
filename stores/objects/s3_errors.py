"""The border where failures of botocore and aiohttp become ours: which error, may it be tried again, was it carried out?

`judge` is a plain function of the exception. Each message is one sentence that says what was tried, what stood in the way and
what to do. What is not recognised is raised again: a bug is not a failure of the store.
"""

from __future__ import annotations

import ssl
from typing import Any, NamedTuple

from aiohttp import ClientConnectorError, ClientError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from towline.stores.objects.base import NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.retry import Fate, Judged, retry_after


class Doing(NamedTuple):
    """What was tried, for messages."""

    verb: str
    what: str
    """URL of the object or place."""
    bucket: str
    customer_key: bool = False
    """Was a key of SSE-C sent along?"""

    def failed(self, why: str) -> str:
        """The sentence."""
        return f"cannot {self.verb} {self.what}: {why}"


SLOW = frozenset(
    {"SlowDown", "ServiceUnavailable", "TooManyRequests", "TooManyRequestsException", "RequestLimitExceeded", "RequestThrottled"}
    | {"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException", "BandwidthLimitExceeded"}
    | {"RateExceeded", "Reduce your request rate", "EC2ThrottledException", "ConcurrentRequestLimitExceeded"}
)
"""Codes of a server that refuses for its load."""

BROKEN_BODY = frozenset(
    {"RequestTimeout", "IncompleteBody", "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
)
"""Codes of a body that has not arrived as it was sent: nothing was stored."""

CONFLICT = frozenset({"ConditionalRequestConflict", "OperationAborted", "ConcurrentModification"})
"""Codes of requests that lost to one that was under way, before they did anything."""

_REGION = "the bucket lies in another region: name it as aws:REGION:BUCKET:PREFIX or set AWS_DEFAULT_REGION"

WHY = {
    "NoSuchUpload": "the upload has ended meanwhile: somebody has aborted it",
    "AccessDenied": "access is denied: give these credentials read, write, list and delete on the bucket",
    "AllAccessDisabled": "the provider has disabled all access to the bucket",
    "InvalidAccessKeyId": "the server does not know the access key: check AWS_ACCESS_KEY_ID or AWS_PROFILE",
    "SignatureDoesNotMatch": "the secret does not belong to the access key: check AWS_SECRET_ACCESS_KEY or AWS_PROFILE",
    "ExpiredToken": "the credentials have expired: renew them",
    "ExpiredTokenException": "the credentials have expired: renew them",
    "InvalidToken": "the session token is not valid: renew the credentials",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "RequestExpired": "this machine's clock is wrong: set it",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "QuotaExceeded": "the quota is used up: free some space and resume",
    "EntityTooLarge": "the server takes no object of this size",
    "InvalidPart": "a part of the upload has vanished: somebody has aborted it",
    "InvalidObjectState": "the object is archived: restore it first",
    "KMS.NotFoundException": "the KMS key does not exist: check TOWLINE_SSE_KMS_KEY",
    "KMS.DisabledException": "the KMS key is disabled",
    "NotImplemented": "the server does not offer this",
}
"""What a code means to a user, where no retry helps."""

_WHY_STATUS = {
    401: WHY["InvalidAccessKeyId"],
    403: WHY["AccessDenied"],
    301: WHY["PermanentRedirect"],
    501: WHY["NotImplemented"],
}
"""The same where an answer has no body (HEAD), or a proxy gave it."""

_NO_CREDENTIALS = "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


def judge(error: Exception, doing: Doing) -> Judged:
    """What this failure means."""
    match error:
        case ObjectsError():
            return Judged(error)
        case boto.ClientError():
            return _answered(error.response, doing)
        case boto.SSLError() | ssl.SSLError():
            return Judged(ObjectsError(doing.failed(f"no TLS connection to the server ({_short(error)}): check AWS_CA_BUNDLE")))
        case boto.EndpointConnectionError() | boto.ConnectTimeoutError() | boto.ProxyConnectionError() | ClientConnectorError():
            why = f"no connection to the server ({_short(error)}): check the network and AWS_ENDPOINT_URL"
            return Judged(ObjectsError(doing.failed(why)), again=True, unreached=True)
        case TimeoutError() | boto.ReadTimeoutError():
            return _lost(doing, "the server has not answered in time")
        case boto.HTTPClientError() | boto.ResponseStreamingError() | boto.IncompleteReadError() | ResponseParserError():
            return _lost(doing, f"the answer was lost or garbled ({_short(error)})")
        case ClientError() | OSError():
            return _lost(doing, f"the connection broke ({_short(error)})")
        case boto.NoCredentialsError() | boto.PartialCredentialsError() | boto.NoAuthTokenError():
            return Judged(ObjectsError(doing.failed(_NO_CREDENTIALS)))
        case boto.ParamValidationError():
            raise error
        case boto.BotoCoreError():
            return Judged(ObjectsError(doing.failed(_short(error))))
        case _:
            raise error


def status_of(error: BaseException | None) -> int:
    """The HTTP status of the answer behind an error of ours; 0 if there was none."""
    response = getattr(error.__cause__, "response", None) if error is not None else None
    return _status(response) if isinstance(response, dict) else 0


def _status(response: Any) -> int:
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__).replace("\n", " ")[:300]


def _lost(doing: Doing, why: str) -> Judged:
    return Judged(ObjectsError(doing.failed(why)), again=True, fate=Fate.MAYBE)


def _answered(response: Any, doing: Doing) -> Judged:
    """The server has said something."""
    said = response.get("Error", {})
    code, status = str(said.get("Code", "")), _status(response)
    after_s = retry_after(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after"))
    if code in SLOW or status == 429:
        why = f"the server asks to slow down ({code})"
        return Judged(ObjectsError(doing.failed(why)), again=True, fate=Fate.UNLIKELY, after_s=after_s)
    if code in BROKEN_BODY:
        return Judged(ObjectsError(doing.failed(f"the data arrived damaged or not at all ({code})")), again=True, after_s=after_s)
    if code in CONFLICT:
        return Judged(ObjectsError(doing.failed("another write to the same object is under way")), again=True, after_s=after_s)
    if status >= 500 and code not in WHY and status != 501:
        why = f"the server failed ({status} {code})"
        return Judged(ObjectsError(doing.failed(why)), again=True, fate=Fate.MAYBE, after_s=after_s)
    return Judged(_refused(code, status, str(said.get("Message", "")), doing))


def _refused(code: str, status: int, message: str, doing: Doing) -> ObjectsError:
    """The server will not do it, however often it is asked."""
    if code == "NoSuchBucket":
        why = f"there is no bucket {doing.bucket!r} here: create it, or check its name, AWS_ENDPOINT_URL and AWS_PROFILE"
        return ObjectsError(doing.failed(why))
    if code in WHY:
        return ObjectsError(doing.failed(WHY[code]))
    if status == 404 and doing.verb.startswith("list"):
        why = "the server at the endpoint is none of S3's (it knows no listing): check AWS_ENDPOINT_URL"
        return ObjectsError(doing.failed(why))
    if status == 404:
        return NotFound(f"{doing.what} does not exist")
    if status == 412:
        return PreconditionFailed(f"{doing.what} is not as the write demands: somebody else has written it, or it is gone")
    if status in _WHY_STATUS and (not message or code == str(status)):  # an answer without a body
        return ObjectsError(doing.failed(_WHY_STATUS[status]))
    if status == 400 and doing.verb in ("read", "look at", "copy"):
        have = "with another key or with none" if doing.customer_key else "with a key of its own: name it by TOWLINE_SSE_KEY_FILE"
        return ObjectsError(
            doing.failed(f"the server refuses ({code} {message}): perhaps it was encrypted {have}".replace(" )", ")"))
        )
    return ObjectsError(doing.failed(f"the server refuses ({status} {code}: {message})"))
