"""What the network and the service do wrong, and what Google's client makes of it: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from google.api_core import exceptions
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from gcp_emulator.faults import Rule
from tests.faulty_proxy import Fault, FaultyProxy
from tests.gcp_emulator.storage_twin import StorageTwin, bucket_name, client_of, storage_twin
from tests.integration.stack import until

_CHUNK = 256 * 1024
_AT_ONCE = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.02).with_timeout(10)
"""The client's own rules, without its waiting."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageTwin]:
    with storage_twin(tmp_path_factory.mktemp("storage")) as started:
        yield started


@pytest.fixture
def twin(shared: StorageTwin) -> Iterator[StorageTwin]:
    shared.faults.replace([])
    yield shared
    shared.faults.replace([])


@pytest.fixture
def bucket(twin: StorageTwin, request: pytest.FixtureRequest) -> storage.Bucket:
    return twin.client().create_bucket(bucket_name(request.node.nodeid))


def _unavailable(twin: StorageTwin, call: str, when: str, nth: int = 1) -> None:
    twin.faults.replace([Rule.model_validate({"call": call, "code": "UNAVAILABLE", "when": when, "nth": nth})])


@pytest.mark.parametrize("size", [4, None])
def test_an_upload_that_was_not_done_is_done_again(twin: StorageTwin, bucket: storage.Bucket, size: int | None) -> None:
    """In one request where the client knows the size, else resumable."""
    _unavailable(twin, "* */upload/*", "before")
    blob = bucket.blob("a")
    blob.upload_from_file(io.BytesIO(b"data"), size=size, if_generation_match=0, retry=_AT_ONCE)
    assert blob.download_as_bytes() == b"data"


def test_an_upload_whose_answer_was_lost_is_not_done_twice(twin: StorageTwin, bucket: storage.Bucket) -> None:
    """With the condition, the client learns that it is there; without it, it is written again."""
    _unavailable(twin, "POST */upload/*", "after")
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("a").upload_from_string(b"data", if_generation_match=0, retry=_AT_ONCE)
    first = bucket.get_blob("a")
    assert first.download_as_bytes() == b"data"
    _unavailable(twin, "POST */upload/*", "after")
    blob = bucket.blob("b")
    blob.upload_from_string(b"data", retry=_AT_ONCE)
    assert blob.generation == first.generation + 2


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_resumable_upload_survives_a_fault_at_each_chunk(
    twin: StorageTwin, bucket: storage.Bucket, when: str, nth: int
) -> None:
    data = os.urandom(2 * _CHUNK + 100)
    _unavailable(twin, "PUT *", when, nth)
    blob = bucket.blob("a", chunk_size=_CHUNK)
    blob.upload_from_file(io.BytesIO(data), if_generation_match=0, checksum="md5", retry=_AT_ONCE)
    assert blob.download_as_bytes() == data
    assert [found.generation for found in bucket.list_blobs()] == [blob.generation]


def test_a_delete_whose_answer_was_lost_deletes_no_later_object(twin: StorageTwin, bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1")
    _unavailable(twin, "DELETE *", "after")
    with pytest.raises(exceptions.NotFound):
        blob.delete(if_generation_match=blob.generation, retry=_AT_ONCE)
    assert not blob.exists()


@pytest.mark.parametrize(
    ("code", "raised", "reason"),
    [
        ("PERMISSION_DENIED", exceptions.Forbidden, "forbidden"),
        ("RESOURCE_EXHAUSTED", exceptions.TooManyRequests, "rateLimitExceeded"),
        ("UNAVAILABLE", exceptions.ServiceUnavailable, "backendError"),
    ],
)
def test_refusals_have_googles_form(
    twin: StorageTwin, bucket: storage.Bucket, code: str, raised: type[Exception], reason: str
) -> None:
    twin.faults.replace([Rule.model_validate({"call": "GET *", "code": code, "times": 0})])
    with pytest.raises(raised) as caught:
        bucket.reload(retry=None)
    assert caught.value.errors[0]["reason"] == reason  # type: ignore[attr-defined]


def test_each_call_of_a_batch_fails_for_itself(twin: StorageTwin, bucket: storage.Bucket) -> None:
    for name in ("a", "b"):
        bucket.blob(name).upload_from_string(b"")
    twin.faults.replace([Rule(call="DELETE *", resource="*/o/b", code="UNAVAILABLE")])
    client = bucket.client
    with client.batch(raise_exception=False) as batch:
        bucket.delete_blob("a")
        bucket.delete_blob("b")
    assert [part.status_code for part in batch._responses] == [204, 503]


def test_an_upload_goes_on_where_its_connection_was_reset(twin: StorageTwin, bucket: storage.Bucket) -> None:
    """The bytes that had come are not sent again, and the object is whole."""
    data = os.urandom(8 * _CHUNK)
    proxy = FaultyProxy(twin.address.removeprefix("http://"))
    proxy.rule = lambda method, _: Fault(reset_after=3 * _CHUNK) if method == "PUT" and not proxy.resets else None
    serving = proxy.serving()
    asyncio.run_coroutine_threadsafe(serving.__aenter__(), twin.loop).result(10)
    try:
        client = client_of(f"http://{proxy.address}")
        blob = client.bucket(bucket.name).blob("a", chunk_size=8 * _CHUNK)
        blob.upload_from_file(io.BytesIO(data), checksum="crc32c", retry=_AT_ONCE)
    finally:
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), twin.loop).result(10)
    assert proxy.resets == 1
    assert bucket.blob("a").download_as_bytes() == data


# the resumable protocol itself


def _session(twin: StorageTwin, bucket: storage.Bucket, name: str = "a", **headers: str) -> str:
    path = f"/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&name={name}"
    began = requests.post(twin.address + path, headers={"Authorization": "Bearer x", **headers}, timeout=10)
    return began.headers["location"]


def _put(session: str, told: str, data: bytes = b"", **headers: str) -> requests.Response:
    sent = {"Authorization": "Bearer x", "Content-Range": told, **headers}
    return requests.put(session, data=data, headers=sent, timeout=10)


def test_a_client_asks_how_far_it_is(twin: StorageTwin, bucket: storage.Bucket) -> None:
    session = _session(twin, bucket)
    assert "range" not in _put(session, "bytes */*").headers
    came = _put(session, f"bytes 0-{_CHUNK + 9}/*", b"x" * (_CHUNK + 10))
    assert (came.status_code, came.headers["range"]) == (308, f"bytes=0-{_CHUNK - 1}")
    assert _put(session, "bytes */*").headers["range"] == f"bytes=0-{_CHUNK - 1}"
    done = _put(session, f"bytes {_CHUNK}-{_CHUNK + 1}/{_CHUNK + 2}", b"yz")
    assert (done.status_code, done.json()["size"]) == (200, str(_CHUNK + 2))
    asked_again = _put(session, "bytes */*")
    assert (asked_again.status_code, asked_again.json()["generation"]) == (200, done.json()["generation"])


def test_chunks_out_of_order_are_refused_or_skipped(twin: StorageTwin, bucket: storage.Bucket) -> None:
    session, size = _session(twin, bucket), 2 * _CHUNK
    ahead = _put(session, f"bytes {_CHUNK}-{size - 1}/{size}", b"b" * _CHUNK)
    assert (ahead.status_code, ahead.text.count("exceeds already uploaded size of 0")) == (503, 1)
    for _ in range(2):
        assert _put(session, f"bytes 0-{_CHUNK - 1}/{size}", b"a" * _CHUNK).status_code == 308
    assert _put(session, f"bytes 0-{size - 1}/{size}", b"?" * _CHUNK + b"b" * _CHUNK).status_code == 200
    assert bucket.blob("a").download_as_bytes() == b"a" * _CHUNK + b"b" * _CHUNK


def test_a_client_that_cannot_have_308_gets_it_in_a_header(twin: StorageTwin, bucket: storage.Bucket) -> None:
    told = _put(_session(twin, bucket), "bytes */*", **{"X-GUploader-No-308": "yes"})
    assert (told.status_code, told.headers["x-http-status-code-override"]) == (200, "308")


def test_a_cancelled_upload_is_gone(twin: StorageTwin, bucket: storage.Bucket) -> None:
    session = _session(twin, bucket)
    _put(session, f"bytes 0-{_CHUNK - 1}/*", b"x" * _CHUNK)
    assert requests.delete(session, headers={"Authorization": "Bearer x"}, timeout=10).status_code == 499
    assert _put(session, "bytes */*").status_code == 499
    assert list(bucket.list_blobs()) == []
    assert _put(session + "x", "bytes */*").status_code == 404


def _slowly(session: str, between: Callable[[], object]) -> requests.Response:
    """Two quanta in one request; `between` is done while the first has come and the second has not."""

    def body() -> Iterator[bytes]:
        yield b"a" * _CHUNK
        until("the first bytes to come", lambda: "range" in _put(session, "bytes */*").headers, 20)
        between()
        yield b"b" * _CHUNK

    told = f"bytes 0-{2 * _CHUNK - 1}/{2 * _CHUNK}"
    return requests.put(session, data=body(), headers={"Authorization": "x", "Content-Range": told}, timeout=20)


def test_a_question_disturbs_nobody_who_sends(twin: StorageTwin, bucket: storage.Bucket) -> None:
    assert _slowly(_session(twin, bucket), lambda: None).status_code == 200
    assert bucket.get_blob("a").size == 2 * _CHUNK


def test_what_is_cancelled_while_it_is_sent_leaves_nothing(twin: StorageTwin, bucket: storage.Bucket) -> None:
    unfinished = twin.state.folder / "blobs" / "storage" / "unfinished"
    before = set(unfinished.iterdir())
    session = _session(twin, bucket)
    cancel = {"Authorization": "Bearer x"}
    sent = _slowly(session, lambda: requests.delete(session, headers=cancel, timeout=10))
    assert sent.status_code == 503
    assert list(bucket.list_blobs()) == []
    assert set(unfinished.iterdir()) == before


def test_a_condition_is_looked_at_again_when_the_last_byte_is_there(twin: StorageTwin, bucket: storage.Bucket) -> None:
    """Two begin, one ends first: the other must not overwrite it."""
    path = f"/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&name=a&ifGenerationMatch=0"
    began = [requests.post(twin.address + path, headers={"Authorization": "x"}, timeout=10) for _ in range(2)]
    answers = [_put(start.headers["location"], "bytes 0-0/1", b"12"[at : at + 1]) for at, start in enumerate(began)]
    assert [answer.status_code for answer in answers] == [200, 412]
    assert bucket.blob("a").download_as_bytes() == b"1"


def test_announced_and_sent_must_agree(twin: StorageTwin, bucket: storage.Bucket) -> None:
    session = _session(twin, bucket, **{"X-Upload-Content-Length": "5"})
    assert _put(session, "bytes 0-2/3", b"abc").status_code == 400
    assert _put(session, "bytes 0-4/5", b"abc").status_code == 400
    checked = _session(twin, bucket, "b", **{"X-Goog-Hash": "crc32c=AAAAAA=="})
    assert _put(checked, "bytes 0-2/3", b"abc").status_code == 400
    assert _put(checked, "bytes */*").status_code == 404
    assert list(bucket.list_blobs()) == []


def test_what_is_not_served_says_its_name(twin: StorageTwin, bucket: storage.Bucket) -> None:
    headers = {"Authorization": "Bearer x"}
    for path, name in (
        (f"/storage/v1/b/{bucket.name}/acl", "storage.bucketAccessControls.list"),
        (f"/storage/v1/b/{bucket.name}/o?matchGlob=*", "matchGlob"),
        (f"/{bucket.name}/object", "XML API"),
        (f"/{bucket.name}/object?X-Goog-Signature=00", "a signed URL"),
    ):
        answer = requests.get(twin.address + path, headers=headers, timeout=10)
        assert answer.status_code == 501
        assert name in answer.json()["error"]["message"]
        assert answer.json()["error"]["status"] == "UNIMPLEMENTED"
    assert requests.get(f"{twin.address}/storage/v1/nothing", headers=headers, timeout=10).status_code == 404


def test_an_old_session_has_expired(tmp_path: Path) -> None:
    with storage_twin(tmp_path) as twin:
        bucket = twin.client().create_bucket("expiring")
        session = _session(twin, bucket)
        asyncio.run_coroutine_threadsafe(twin.clock.advance(8 * 86_400), twin.loop).result(10)
        assert _put(session, "bytes */*").status_code == 404
