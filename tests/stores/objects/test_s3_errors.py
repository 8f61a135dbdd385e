"""The border of errors as a table: what botocore and aiohttp say, and what we understand."""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import pytest
from aiohttp import ClientConnectorError, ClientPayloadError, ServerDisconnectedError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from towline.stores.objects.base import NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.retry import Fate
from towline.stores.objects.s3_errors import Doing, judge, status_of

WRITING = Doing("write", "s3://b/k", "b")
READING = Doing("read", "s3://b/k", "b")


def answer(status, code="", message="", headers=None):
    said = {"Error": {"Code": code, "Message": message}}
    return boto.ClientError({**said, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}}, "PutObject")


FINAL, AGAIN, BUSY, MAYBE = (False, Fate.NOT), (True, Fate.NOT), (True, Fate.UNLIKELY), (True, Fate.MAYBE)

TABLE = [
    (answer(404, "NoSuchKey"), FINAL, NotFound, "s3://b/k does not exist"),
    (answer(404, "404"), FINAL, NotFound, "does not exist"),
    (answer(404, "NoSuchBucket"), FINAL, ObjectsError, "there is no bucket 'b' here: create it"),
    (answer(404, "NoSuchUpload"), FINAL, ObjectsError, "somebody has aborted it"),
    (answer(412, "PreconditionFailed"), FINAL, PreconditionFailed, "not as the write demands"),
    (answer(409, "ConditionalRequestConflict"), AGAIN, ObjectsError, "another write to the same object"),
    (answer(409, "OperationAborted"), AGAIN, ObjectsError, "another write"),
    (answer(409, "BucketNotEmpty", "m"), FINAL, ObjectsError, "409 BucketNotEmpty: m"),
    (answer(503, "SlowDown"), BUSY, ObjectsError, "asks to slow down"),
    (answer(503, "ServiceUnavailable"), BUSY, ObjectsError, "asks to slow down"),
    (answer(429, "429"), BUSY, ObjectsError, "asks to slow down"),
    (answer(400, "RequestTimeout"), AGAIN, ObjectsError, "arrived damaged or not at all"),
    (answer(400, "BadDigest"), AGAIN, ObjectsError, "arrived damaged"),
    (answer(500, "InternalError"), MAYBE, ObjectsError, "the server failed"),
    (answer(500, "500"), MAYBE, ObjectsError, "the server failed"),
    (answer(502, "502"), MAYBE, ObjectsError, "the server failed"),
    (answer(503, "503"), MAYBE, ObjectsError, "the server failed"),
    (answer(504, "504"), MAYBE, ObjectsError, "the server failed"),
    (answer(501, "NotImplemented"), FINAL, ObjectsError, "does not offer this"),
    (answer(403, "AccessDenied", "m"), FINAL, ObjectsError, "access is denied: give"),
    (answer(403, "403", "Forbidden"), FINAL, ObjectsError, "access is denied"),
    (answer(403, "InvalidAccessKeyId"), FINAL, ObjectsError, "check AWS_ACCESS_KEY_ID"),
    (answer(403, "SignatureDoesNotMatch"), FINAL, ObjectsError, "the secret does not belong"),
    (answer(403, "RequestTimeTooSkewed"), FINAL, ObjectsError, "clock is wrong"),
    (answer(403, "QuotaExceeded"), FINAL, ObjectsError, "the quota is used up"),
    (answer(400, "ExpiredToken"), FINAL, ObjectsError, "have expired"),
    (answer(301, "PermanentRedirect"), FINAL, ObjectsError, "another region: name it as aws:REGION"),
    (answer(301, "301", "Moved Permanently"), FINAL, ObjectsError, "another region"),
    (answer(400, "AuthorizationHeaderMalformed"), FINAL, ObjectsError, "another region"),
    (answer(400, "EntityTooLarge"), FINAL, ObjectsError, "takes no object of this size"),
    (answer(418, "Teapot", "short"), FINAL, ObjectsError, "refuses .418 Teapot: short"),
    (boto.EndpointConnectionError(endpoint_url="u", error="refused"), AGAIN, ObjectsError, "no connection to the server"),
    (boto.ConnectTimeoutError(endpoint_url="u"), AGAIN, ObjectsError, "no connection"),
    (ClientConnectorError(SimpleNamespace(host="h", port=1, ssl=True), OSError(111, "no")), AGAIN, ObjectsError, "no connection"),
    (boto.ReadTimeoutError(endpoint_url="u"), MAYBE, ObjectsError, "has not answered in time"),
    (TimeoutError(), MAYBE, ObjectsError, "has not answered in time"),
    (boto.ConnectionClosedError(endpoint_url="u"), MAYBE, ObjectsError, "lost or garbled"),
    (boto.HTTPClientError(error="x"), MAYBE, ObjectsError, "lost or garbled"),
    (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), MAYBE, ObjectsError, "lost or garbled"),
    (ResponseParserError("bad xml"), MAYBE, ObjectsError, "lost or garbled"),
    (ClientPayloadError("cut"), MAYBE, ObjectsError, "the connection broke"),
    (ServerDisconnectedError(), MAYBE, ObjectsError, "the connection broke"),
    (ConnectionResetError(), MAYBE, ObjectsError, "the connection broke"),
    (boto.SSLError(endpoint_url="u", error="bad"), FINAL, ObjectsError, "check AWS_CA_BUNDLE"),
    (ssl.SSLError("bad"), FINAL, ObjectsError, "check AWS_CA_BUNDLE"),
    (boto.NoCredentialsError(), FINAL, ObjectsError, "there are no credentials: set"),
    (boto.CredentialRetrievalError(provider="p", error_msg="m"), FINAL, ObjectsError, "m"),
]


@pytest.mark.parametrize(("error", "course", "kind", "said"), TABLE)
def test_what_it_means(error, course, kind, said):
    judged = judge(error, WRITING)
    assert type(judged.error) is kind
    assert (judged.again, judged.fate) == course
    with pytest.raises(kind, match=said):
        raise judged.error
    assert "s3://b/k" in str(judged.error)
    assert "\n" not in str(judged.error)


def test_what_is_ours_already_stays():
    ours = NotFound("x")
    assert judge(ours, WRITING).error is ours


@pytest.mark.parametrize("bug", [KeyError("x"), TypeError(), boto.ParamValidationError(report="r")])
def test_bugs_pass(bug):
    with pytest.raises(type(bug)):
        judge(bug, WRITING)


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (409, "OperationAborted")])
def test_the_server_says_when_to_come_back(status, code):
    assert judge(answer(status, code, headers={"retry-after": "7"}), WRITING).after_s == 7
    assert judge(answer(status, code), WRITING).after_s == 0


def test_a_read_that_fails_for_its_key_says_so():
    assert "with another key or with none" in str(judge(answer(400, "400"), READING._replace(customer_key=True)).error)
    assert "with a key of its own, and none was given" in str(judge(answer(400, "InvalidRequest", "m"), READING).error)
    assert "encrypted" not in str(judge(answer(400, "InvalidRequest", "m"), WRITING).error)


def test_the_status_behind_an_error():
    ours = judge(answer(501, "NotImplemented"), WRITING).error
    ours.__cause__ = answer(501, "NotImplemented")
    assert status_of(ours) == 501
    assert status_of(ObjectsError("x")) == status_of(None) == 0


def test_a_server_that_knows_no_listing_is_none():
    """The bucket's 404 has a code; one without is some other program's."""
    judged = judge(answer(404, "404", "Not Found"), Doing("list", "s3://b/x", "b"))
    assert not isinstance(judged.error, NotFound)
    assert "check AWS_ENDPOINT_URL" in str(judged.error)
