"""Google's own client, unmodified, over a real connection: what it cannot do here, the product cannot rely on."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import pytest
import requests
from google.api_core import exceptions
from google.cloud import storage
from google.cloud.storage import transfer_manager

from tests.gcp_emulator.storage_twin import StorageTwin, bucket_name, storage_twin

_CHUNK = 256 * 1024


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageTwin]:
    with storage_twin(tmp_path_factory.mktemp("storage")) as started:
        yield started


@pytest.fixture
def client(twin: StorageTwin) -> storage.Client:
    return twin.client()


@pytest.fixture
def bucket(twin: StorageTwin, client: storage.Client, request: pytest.FixtureRequest) -> storage.Bucket:
    return client.create_bucket(bucket_name(request.node.nodeid), location="europe-west1")


# buckets


def test_a_bucket_is_made_labelled_and_found(client: storage.Client, bucket: storage.Bucket) -> None:
    bucket.labels = {"owner": "cloud-deploy", "project": "42"}
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.patch()
    bucket.labels = {"owner": "cloud-deploy"}
    bucket.patch()
    found = client.get_bucket(bucket.name)
    assert found.labels == {"owner": "cloud-deploy"}
    assert found.iam_configuration.uniform_bucket_level_access_enabled
    assert (found.location, found.location_type, found.storage_class) == ("EUROPE-WEST1", "region", "STANDARD")
    assert found.metageneration == 3
    assert bucket.name in [listed.name for listed in client.list_buckets(page_size=1)]
    assert [listed.name for listed in client.list_buckets(prefix=bucket.name)] == [bucket.name]


def test_a_bucket_is_made_once(client: storage.Client, bucket: storage.Bucket) -> None:
    with pytest.raises(exceptions.Conflict, match="you already own it"):
        client.create_bucket(bucket.name)


def test_a_bucket_with_something_in_it_is_not_deleted(client: storage.Client, bucket: storage.Bucket) -> None:
    bucket.blob("kept").upload_from_string(b"x")
    with pytest.raises(exceptions.Conflict, match="not empty"):
        bucket.delete()
    bucket.delete(force=True)
    assert client.lookup_bucket(bucket.name) is None


@pytest.mark.parametrize("name", ["Upper", "ab", "1.2.3.4", "my-google-bucket", "-a-", "a" * 64])
def test_a_name_that_the_service_would_refuse_is_refused(twin: StorageTwin, name: str) -> None:
    answer = _call(twin, "POST", "/storage/v1/b?project=twin-project", json={"name": name})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"Invalid bucket name: '{name}'"


def test_who_may_do_what_is_read_and_written_under_an_etag(bucket: storage.Bucket) -> None:
    policy = bucket.get_iam_policy(requested_policy_version=3)
    stale = bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:a@example.com"}})
    bucket.set_iam_policy(policy)
    assert any(binding["role"] == "roles/storage.objectViewer" for binding in bucket.get_iam_policy().bindings)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.set_iam_policy(stale)
    asked = ["storage.objects.create", "storage.buckets.get"]
    assert bucket.test_iam_permissions(asked) == asked


# bytes


@pytest.mark.parametrize("size", [0, 1, _CHUNK - 1, _CHUNK, _CHUNK + 1, 3 * _CHUNK + 5])
@pytest.mark.parametrize("chunk", [None, _CHUNK])
def test_bytes_come_back_as_they_went(bucket: storage.Bucket, size: int, chunk: int | None) -> None:
    data = os.urandom(size)
    blob = bucket.blob("some/object", chunk_size=chunk)
    blob.upload_from_file(io.BytesIO(data), checksum="md5", content_type="application/x-thing")
    assert (blob.size, blob.content_type) == (size, "application/x-thing")
    assert blob.md5_hash == base64.b64encode(hashlib.md5(data).digest()).decode()
    assert blob.crc32c == base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    assert blob.download_as_bytes(checksum="crc32c") == data
    assert bucket.blob("some/object", chunk_size=chunk).download_as_bytes(checksum="md5") == data


def test_a_stream_of_unknown_length_is_uploaded(bucket: storage.Bucket) -> None:
    data = os.urandom(3 * _CHUNK + 7)
    with bucket.blob("stream").open("wb", chunk_size=_CHUNK) as file:
        for at in range(0, len(data), 1000):
            file.write(data[at : at + 1000])
    with bucket.blob("stream").open("rb", chunk_size=_CHUNK) as file:
        file.seek(_CHUNK - 3)
        assert file.read() == data[_CHUNK - 3 :]


def test_parts_of_an_object_are_read(bucket: storage.Bucket) -> None:
    blob = bucket.blob("digits")
    blob.upload_from_string(b"0123456789")
    assert blob.download_as_bytes(start=2, end=4) == b"234"
    assert blob.download_as_bytes(start=7) == b"789"
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10)


def test_many_at_once_and_one_in_pieces(bucket: storage.Bucket, tmp_path: Path) -> None:
    """How weights come to a service quickly."""
    data = os.urandom(5 * _CHUNK)
    (tmp_path / "weights").write_bytes(data)
    for number in range(8):
        (tmp_path / f"{number}").write_bytes(bytes([number]) * 1000)
    names = ["weights", *[str(number) for number in range(8)]]
    sent = transfer_manager.upload_many_from_filenames(
        bucket, names, source_directory=str(tmp_path), worker_type="thread", max_workers=4
    )
    assert sent == [None] * len(names)
    transfer_manager.download_chunks_concurrently(
        bucket.get_blob("weights"), str(tmp_path / "back"), chunk_size=_CHUNK, worker_type="thread", max_workers=4
    )
    assert (tmp_path / "back").read_bytes() == data


def test_compressed_objects_are_opened_for_who_cannot(twin: StorageTwin, bucket: storage.Bucket) -> None:
    blob = bucket.blob("log.gz")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(b"words " * 1000), content_type="text/plain")
    assert blob.download_as_bytes() == b"words " * 1000
    assert gzip.decompress(blob.download_as_bytes(raw_download=True)) == b"words " * 1000
    path = f"/storage/v1/b/{bucket.name}/o/log.gz?alt=media"
    assert _call(twin, "GET", path, headers={"Accept-Encoding": "identity"}).content == b"words " * 1000


def test_bytes_that_are_not_those_of_their_sums_are_not_kept(twin: StorageTwin, bucket: storage.Bucket) -> None:
    blob = bucket.blob("corrupt")
    blob.md5_hash = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    with pytest.raises(exceptions.BadRequest, match="doesn't match calculated MD5"):
        blob.upload_from_string(b"this", checksum=None)
    path = f"/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=corrupt"
    answer = _call(twin, "POST", path, data=b"this", headers={"X-Goog-Hash": "crc32c=AAAAAA=="})
    assert answer.status_code == 400
    assert answer.json()["error"]["errors"][0]["reason"] == "invalid"
    assert not blob.exists()


# what is known of objects


def test_metadata_is_kept_changed_and_counted(bucket: storage.Bucket) -> None:
    blob = bucket.blob("ünïcode/a b?c#d%2F")
    blob.metadata = {"project": "42", "gone": "soon"}
    blob.cache_control = "no-store"
    blob.upload_from_string(b"x", content_type="text/plain")
    blob.metadata = {"project": "43", "gone": None}
    blob.patch()
    found = bucket.get_blob(blob.name)
    assert found.metadata == {"project": "43"}
    assert (found.cache_control, found.content_type, found.metageneration) == ("no-store", "text/plain", 2)
    assert found.generation == blob.generation
    assert found.etag != ""
    found.update()
    assert found.metageneration == 3


def test_names_are_listed_by_folder_and_by_page(client: storage.Client, bucket: storage.Bucket) -> None:
    for name in ("a", "d/1", "d/2", "d/e/3", "z"):
        bucket.blob(name).upload_from_string(b"")
    listed = client.list_blobs(bucket, delimiter="/", page_size=2)
    assert [blob.name for blob in listed] == ["a", "z"]
    assert listed.prefixes == {"d/"}
    assert [blob.name for blob in client.list_blobs(bucket, prefix="d/", page_size=1)] == ["d/1", "d/2", "d/e/3"]
    assert [blob.name for blob in client.list_blobs(bucket, start_offset="d/2", end_offset="z")] == ["d/2", "d/e/3"]
    page = client.list_blobs(bucket, fields="items(name),nextPageToken", max_results=1)
    assert [blob._properties for blob in page] == [{"name": "a"}]
    with pytest.raises(exceptions.NotFound):
        list(client.list_blobs("no-such-bucket"))


def test_an_older_generation_is_not_there_any_more(bucket: storage.Bucket) -> None:
    blob = bucket.blob("twice")
    blob.upload_from_string(b"1")
    first = blob.generation
    blob.upload_from_string(b"2")
    assert blob.generation > first
    assert bucket.get_blob("twice", generation=first) is None
    with pytest.raises(exceptions.NotFound):
        bucket.blob("twice", generation=first).download_as_bytes()


def test_conditions_protect_what_is_there(bucket: storage.Bucket) -> None:
    blob = bucket.blob("guarded")
    blob.upload_from_string(b"1", if_generation_match=0)
    for change in (
        lambda: bucket.blob("guarded").upload_from_string(b"2", if_generation_match=0),
        lambda: bucket.blob("guarded").upload_from_file(io.BytesIO(b"2"), if_generation_match=0),
        lambda: blob.delete(if_generation_match=blob.generation + 1),
        lambda: blob.patch(if_metageneration_match=9),
        lambda: bucket.copy_blob(blob, bucket, "guarded", if_generation_match=0),
        lambda: bucket.copy_blob(blob, bucket, "other", if_source_generation_match=1),
        lambda: bucket.blob("guarded").compose([blob], if_generation_match=0),
        lambda: blob.download_as_bytes(if_generation_match=1),
    ):
        with pytest.raises(exceptions.PreconditionFailed):
            change()
    with pytest.raises(exceptions.NotModified):
        blob.reload(if_generation_not_match=blob.generation)
    assert blob.download_as_bytes() == b"1"
    assert [found.name for found in bucket.list_blobs()] == ["guarded"]


def test_objects_are_joined(bucket: storage.Bucket) -> None:
    parts = []
    for number in range(3):
        parts.append(bucket.blob(f"part-{number}"))
        parts[-1].upload_from_string(bytes([number]) * 10)
    whole = bucket.blob("whole")
    whole.content_type = "application/x-whole"
    whole.compose(parts)
    data = b"".join(bytes([number]) * 10 for number in range(3))
    assert whole.download_as_bytes() == data
    assert (whole.component_count, whole.md5_hash, whole.content_type) == (3, None, "application/x-whole")
    assert whole.crc32c == base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    with pytest.raises(exceptions.PreconditionFailed):
        whole.compose(parts, if_source_generation_match=[1, None, None])


def test_objects_are_copied_renamed_and_moved_to_another_class(client: storage.Client, bucket: storage.Bucket) -> None:
    blob = bucket.blob("from")
    blob.metadata = {"a": "b"}
    blob.upload_from_string(b"data", content_type="text/x")
    copy = bucket.copy_blob(blob, bucket, "to")
    assert (copy.metadata, copy.content_type) == ({"a": "b"}, "text/x")
    renamed = bucket.rename_blob(copy, "moved")
    renamed.update_storage_class("NEARLINE")
    assert {found.name for found in bucket.list_blobs()} == {"from", "moved"}
    blob.delete()
    found = bucket.get_blob("moved")
    assert (found.download_as_bytes(), found.storage_class) == (b"data", "NEARLINE")


def test_a_batch_is_answered_part_by_part(client: storage.Client, bucket: storage.Bucket) -> None:
    for name in ("a", "b"):
        bucket.blob(name).upload_from_string(b"")
    blob = bucket.blob("b")
    blob.metadata = {"x": "y"}
    with client.batch(raise_exception=False) as batch:
        bucket.delete_blob("a")
        bucket.delete_blob("not-there")
        blob.patch()
    assert [part.status_code for part in batch._responses] == [204, 404, 200]
    assert bucket.get_blob("b").metadata == {"x": "y"}


# errors, in Google's form


def test_what_is_missing_is_said_in_the_services_words(twin: StorageTwin, bucket: storage.Bucket) -> None:
    answer = _call(twin, "GET", f"/storage/v1/b/{bucket.name}/o/nothing")
    words = f"No such object: {bucket.name}/nothing"
    assert answer.status_code == 404
    assert answer.json() == {
        "error": {
            "code": 404,
            "message": words,
            "errors": [{"message": words, "domain": "global", "reason": "notFound"}],
        }
    }
    bytes_of_it = _call(twin, "GET", f"/download/storage/v1/b/{bucket.name}/o/nothing?alt=media")
    assert (bytes_of_it.status_code, bytes_of_it.text) == (404, words)


def test_nobody_is_let_in_without_a_token(twin: StorageTwin, bucket: storage.Bucket) -> None:
    answer = requests.get(f"{twin.address}/storage/v1/b/{bucket.name}", timeout=10)
    assert answer.status_code == 401
    assert answer.json()["error"]["errors"][0]["reason"] == "required"


def test_a_refused_upload_does_not_break_the_connection(bucket: storage.Bucket) -> None:
    """The client sends on while it is refused; it must see the answer, not a reset."""
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("big").upload_from_string(os.urandom(8 << 20), if_generation_match=7)


def _call(twin: StorageTwin, verb: str, path: str, **more: object) -> requests.Response:
    headers = {"Authorization": "Bearer anybody", **more.pop("headers", {})}  # type: ignore[dict-item]
    return requests.request(verb, twin.address + path, headers=headers, timeout=10, **more)  # type: ignore[arg-type]
