"""What Google's clients can call is either served or refused by name: a new version of theirs shows what is new."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import google.cloud.storage
import pytest

from gcp_emulator.clock import ManualClock
from gcp_emulator.state import State
from gcp_emulator.storage import served
from gcp_emulator.storage_methods import METHODS, match
from gcp_emulator.storage_store import Store
from gcp_emulator.storage_uploads import Uploads
from tests import needs

# What a method of the python client calls, by the name that it gives to its traces.
_CALLS = {
    "Blob.compose": "objects.compose",
    "Blob.delete": "objects.delete",
    "Blob.exists": "objects.get",
    "Blob.rewrite": "objects.rewrite",
    "Blob.testIamPermissions": "objects.testIamPermissions",
    "Blob.updateStorageClass": "objects.rewrite",
    "Bucket.copyBlob": "objects.copy",
    "Bucket.create": "buckets.insert",
    "Bucket.delete": "buckets.delete",
    "Bucket.deleteBlob": "objects.delete",
    "Bucket.deleteBlobs": "objects.delete",
    "Bucket.exists": "buckets.get",
    "Bucket.getBlob": "objects.get",
    "Bucket.getIamPolicy": "buckets.getIamPolicy",
    "Bucket.listBlobs": "objects.list",
    "Bucket.patch": "buckets.patch",
    "Bucket.reload": "buckets.get",
    "Bucket.renameBlob": "objects.copy",
    "Bucket.setIamPolicy": "buckets.setIamPolicy",
    "Bucket.testIamPermissions": "buckets.testIamPermissions",
    "Bucket.update": "buckets.update",
    "Client.createBucket": "buckets.insert",
    "Client.getBucket": "buckets.get",
    "Client.getServiceAccountEmail": "projects.serviceAccount.get",
    "Client.listBlobs": "objects.list",
    "Client.listBuckets": "buckets.list",
    "Client.lookupBucket": "buckets.get",
    **dict.fromkeys(
        (
            "Blob.createResumableUploadSession",
            "Blob.uploadFromFile",
            "Blob.uploadFromFilename",
            "Blob.uploadFromString",
        ),
        "objects.insert",
    ),
    **dict.fromkeys(
        (
            "Blob.downloadAsBytes",
            "Blob.downloadAsString",
            "Blob.downloadAsText",
            "Blob.downloadToFile",
            "Blob.downloadToFilename",
            "Blob.open",
            "Client.downloadBlobToFile",
        ),
        "objects.get",
    ),
}
_REFUSED = {
    "ACL.clear": "objectAccessControls",
    "ACL.reload": "objectAccessControls",
    "ACL.save": "objectAccessControls",
    "ACL.savePredefined": "objectAccessControls",
    "Blob.getIamPolicy": "objects.getIamPolicy",
    "Blob.makePrivate": "objectAccessControls",
    "Blob.makePublic": "objectAccessControls",
    "Blob.setIamPolicy": "objects.setIamPolicy",
    "Bucket.lockRetentionPolicy": "buckets.lockRetentionPolicy",
    "Bucket.makePrivate": "bucketAccessControls",
    "Bucket.makePublic": "bucketAccessControls",
    "Bucket.moveBlob": "objects.move",
    **dict.fromkeys(
        (
            "Bucket.getNotification",
            "Bucket.listNotifications",
            "BucketNotification.create",
            "BucketNotification.delete",
            "BucketNotification.exists",
            "BucketNotification.reload",
        ),
        "notifications",
    ),
    **dict.fromkeys(
        (
            "Client.createHmacKey",
            "Client.getHmacKeyMetadata",
            "Client.listHmacKeys",
            "HmacKey.delete",
            "HmacKey.exists",
            "HmacKey.reload",
            "HmacKey.update",
        ),
        "projects.hmacKeys",
    ),
}


@pytest.fixture
def is_served(tmp_path: Path) -> Iterator[set[str]]:
    state = State(tmp_path)
    store = Store(state, ManualClock(), "1")
    yield set(served(store, Uploads(store)))
    state.close()


def test_each_method_of_the_python_client_is_served_or_known_to_be_refused(is_served: set[str]) -> None:
    folder = Path(google.cloud.storage.__file__).parent
    names = {
        name for path in folder.glob("*.py") for name in re.findall(r'name="Storage\.([A-Za-z.]+)"', path.read_text())
    }
    assert names
    assert names - set(_CALLS) - set(_REFUSED) == set(), "new in this version of google-cloud-storage"
    assert {f"storage.{method}" for method in _CALLS.values()} <= is_served
    refused = {method.name for method in METHODS} - is_served
    assert all(any(name.startswith(f"storage.{part}") for name in refused) for part in _REFUSED.values())


@pytest.mark.long  # not every machine that checks has gcloud
def test_each_method_that_gcloud_knows_is_in_the_table() -> None:
    gcloud = Path(needs.program("gcloud")).resolve().parent.parent
    source = gcloud / "lib/googlecloudsdk/generated_clients/apis/storage/v1/storage_v1_client.py"
    if not source.exists():
        needs.missing("this gcloud keeps its list of methods elsewhere")
    known = set(re.findall(r"method_id='(storage\.[A-Za-z.]+)'", source.read_text()))
    assert known - {method.name for method in METHODS} == set()


def test_what_is_served_is_in_the_table(is_served: set[str]) -> None:
    assert is_served <= {method.name for method in METHODS}


def test_a_name_with_slashes_is_one_name() -> None:
    found = match("GET", "/storage/v1/b/x/o/a%2Fb%20c")
    assert found is not None
    assert (found.name, found.arguments) == ("storage.objects.get", {"bucket": "x", "object": "a/b c"})
    assert match("GET", "/storage/v1/b/x/o/a/b") is None
    assert match("GET", "/elsewhere") is None
