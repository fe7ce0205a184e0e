"""Buckets: make, list, change, delete; who may do what with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from gcp_emulator.storage_call import Call, answer
from gcp_emulator.storage_checksums import base64_of
from gcp_emulator.storage_errors import condition_not_met, invalid, required
from gcp_emulator.storage_listing import Asked, page
from gcp_emulator.storage_objects import permissions
from gcp_emulator.storage_preconditions import Version
from gcp_emulator.storage_resources import (
    check_bucket_name,
    iam_configuration,
    merged,
    new_bucket,
    shown_bucket,
    writable_bucket,
)
from gcp_emulator.storage_store import Store

Json = dict[str, Any]
_FIXED = ("name", "projectNumber", "metageneration", "location", "locationType", "timeCreated", "updated")


Holds = Callable[[str, str], bool]
"""From a permission and the full name of a resource to whether who calls holds it."""


def holds_all(_permission: str, _resource: str) -> bool:
    return True


class Buckets:
    def __init__(self, store: Store, holds: Holds = holds_all) -> None:
        self._store = store
        self._holds = holds

    async def insert(self, call: Call) -> Response:
        """storage.buckets.insert"""
        body = await call.json()
        project = call.query.get("project")
        if not project:
            raise required("project")
        name = check_bucket_name(str(body.get("name") or ""))
        bucket = new_bucket(name, body, project_number=self._store.project_number, now=self._store.now())
        self._store.create_bucket(bucket)
        self._store.policies.put(name, _first_policy(project))
        return answer(call, shown_bucket(bucket, call.base))

    async def get(self, call: Call) -> Response:
        """storage.buckets.get"""
        bucket = self._store.bucket(call.bucket)
        call.preconditions().check_read(_version(bucket))
        return answer(call, shown_bucket(bucket, call.base))

    async def list_buckets(self, call: Call) -> Response:
        """storage.buckets.list"""
        if not call.query.get("project"):
            raise required("project")
        asked = Asked.of(call.query)
        found = page(asked, self._store.buckets(asked.prefix))
        result: Json = {"kind": "storage#buckets"}
        if found.items:
            result["items"] = [shown_bucket(bucket, call.base) for bucket in found.items]
        if found.token:
            result["nextPageToken"] = found.token
        return answer(call, result)

    async def patch(self, call: Call) -> Response:
        """storage.buckets.patch"""
        sent = writable_bucket(await call.json())
        bucket = self._changeable(call)
        return self._changed(call, merged(bucket, sent))

    async def update(self, call: Call) -> Response:
        """storage.buckets.update: what is not sent is gone"""
        sent = writable_bucket(await call.json())
        bucket = self._changeable(call)
        fixed = {key: bucket[key] for key in (*_FIXED, "storageClass")}
        return self._changed(call, merged(fixed, sent))

    async def delete(self, call: Call) -> Response:
        """storage.buckets.delete"""
        self._changeable(call)
        self._store.delete_bucket(call.bucket)
        return Response(status_code=204)

    def _changeable(self, call: Call) -> Json:
        bucket = self._store.bucket(call.bucket)
        call.preconditions().check(_version(bucket))
        return bucket

    def _changed(self, call: Call, bucket: Json) -> Response:
        configuration = iam_configuration(bucket.get("iamConfiguration") or {}, self._store.now())
        changed = self._store.change_bucket({**bucket, "iamConfiguration": configuration})
        return answer(call, shown_bucket(changed, call.base))

    async def storage_layout(self, call: Call) -> Response:
        """storage.buckets.getStorageLayout"""
        bucket = self._store.bucket(call.bucket)
        kept = {key: bucket[key] for key in ("location", "locationType")}
        layout = {"kind": "storage#storageLayout", "bucket": bucket["name"], **kept}
        return answer(call, {**layout, "hierarchicalNamespace": {"enabled": False}})

    async def managed_folders(self, call: Call) -> Response:
        """storage.managedFolders.list: none, for none can be made. `gcloud storage rm -r` asks."""
        self._store.bucket(call.bucket)
        return answer(call, {"kind": "storage#managedFolders"})

    async def test_permissions(self, call: Call) -> Response:
        """storage.buckets.testIamPermissions"""
        self._store.bucket(call.bucket)
        asked = permissions(call)
        resource = f"projects/_/buckets/{call.bucket}"
        held = [name for name in asked["permissions"] if self._holds(name, resource)]
        return answer(call, {**asked, "permissions": held} if held else {"kind": asked["kind"]})

    async def get_policy(self, call: Call) -> Response:
        """storage.buckets.getIamPolicy"""
        self._store.bucket(call.bucket)
        return answer(call, self._policy(call.bucket))

    async def set_policy(self, call: Call) -> Response:
        """storage.buckets.setIamPolicy: with an etag it must be that of the policy that is there"""
        body = await call.json()
        self._store.bucket(call.bucket)
        now = self._policy(call.bucket)
        if body.get("etag") not in (None, "", now["etag"]):
            raise condition_not_met()
        bindings = body.get("bindings") or []
        if not isinstance(bindings, list) or not all(isinstance(item, dict) and item.get("role") for item in bindings):
            raise invalid("Invalid argument: each binding of a policy needs a role.")
        row = {"version": body.get("version", 1), "bindings": bindings, "changes": self._changes(call.bucket) + 1}
        self._store.policies.put(call.bucket, row)
        return answer(call, self._policy(call.bucket))

    def _changes(self, name: str) -> int:
        return int((self._store.policies.get(name) or {}).get("changes", 0))

    def _policy(self, name: str) -> Json:
        row = self._store.policies.get(name) or {"version": 1, "bindings": []}
        return {
            "kind": "storage#policy",
            "resourceId": f"projects/_/buckets/{name}",
            "version": row["version"],
            "etag": base64_of(bytes([8, *self._changes(name).to_bytes(4, "big")])),
            "bindings": row["bindings"],
        }

    async def service_account(self, call: Call) -> Response:
        """storage.projects.serviceAccount.get"""
        address = f"service-{self._store.project_number}@gs-project-accounts.iam.gserviceaccount.com"
        return answer(call, {"kind": "storage#serviceAccount", "email_address": address})


def _first_policy(project: str) -> Json:
    """What a new bucket grants. https://cloud.google.com/storage/docs/access-control/iam#project-level-roles"""
    owners = [f"projectEditor:{project}", f"projectOwner:{project}"]
    bindings = [
        {"role": "roles/storage.legacyBucketOwner", "members": owners},
        {"role": "roles/storage.legacyBucketReader", "members": [f"projectViewer:{project}"]},
    ]
    return {"version": 1, "bindings": bindings, "changes": 1}


def _version(bucket: Json) -> Version:
    return Version(0, int(bucket["metageneration"]))
