"""Every method of the JSON API by verb and path, so that one that is not served can be named.

https://cloud.google.com/storage/docs/json_api/v1 . Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

Kind = Literal["plain", "upload", "download"]
BATCH = "/batch/storage/v1"
_PREFIXES: tuple[tuple[str, Kind], ...] = (
    ("/storage/v1/", "plain"),
    ("/upload/storage/v1/", "upload"),
    ("/resumable/upload/storage/v1/", "upload"),
    ("/download/storage/v1/", "download"),
)
_TABLE = """
DELETE storage.buckets.delete b/{bucket}
GET storage.buckets.get b/{bucket}
GET storage.buckets.getIamPolicy b/{bucket}/iam
GET storage.buckets.getStorageLayout b/{bucket}/storageLayout
POST storage.buckets.insert b
GET storage.buckets.list b
POST storage.buckets.lockRetentionPolicy b/{bucket}/lockRetentionPolicy
PATCH storage.buckets.patch b/{bucket}
POST storage.buckets.relocate b/{bucket}/relocate
POST storage.buckets.restore b/{bucket}/restore
PUT storage.buckets.setIamPolicy b/{bucket}/iam
GET storage.buckets.testIamPermissions b/{bucket}/iam/testPermissions
PUT storage.buckets.update b/{bucket}
POST storage.objects.bulkRestore b/{bucket}/o/bulkRestore
POST storage.objects.compose b/{bucket}/o/{object}/compose
POST storage.objects.copy b/{sourceBucket}/o/{sourceObject}/copyTo/b/{bucket}/o/{object}
DELETE storage.objects.delete b/{bucket}/o/{object}
GET storage.objects.get b/{bucket}/o/{object}
GET storage.objects.getIamPolicy b/{bucket}/o/{object}/iam
POST storage.objects.insert b/{bucket}/o
GET storage.objects.list b/{bucket}/o
POST storage.objects.move b/{bucket}/o/{sourceObject}/moveTo/o/{object}
PATCH storage.objects.patch b/{bucket}/o/{object}
POST storage.objects.restore b/{bucket}/o/{object}/restore
POST storage.objects.rewrite b/{sourceBucket}/o/{sourceObject}/rewriteTo/b/{bucket}/o/{object}
PUT storage.objects.setIamPolicy b/{bucket}/o/{object}/iam
GET storage.objects.testIamPermissions b/{bucket}/o/{object}/iam/testPermissions
PUT storage.objects.update b/{bucket}/o/{object}
POST storage.objects.watchAll b/{bucket}/o/watch
POST storage.anywhereCaches.disable b/{bucket}/anywhereCaches/{id}/disable
GET storage.anywhereCaches.get b/{bucket}/anywhereCaches/{id}
POST storage.anywhereCaches.insert b/{bucket}/anywhereCaches
GET storage.anywhereCaches.list b/{bucket}/anywhereCaches
POST storage.anywhereCaches.pause b/{bucket}/anywhereCaches/{id}/pause
POST storage.anywhereCaches.resume b/{bucket}/anywhereCaches/{id}/resume
PATCH storage.anywhereCaches.update b/{bucket}/anywhereCaches/{id}
POST storage.channels.stop channels/stop
DELETE storage.folders.delete b/{bucket}/folders/{folder}
GET storage.folders.get b/{bucket}/folders/{folder}
POST storage.folders.insert b/{bucket}/folders
GET storage.folders.list b/{bucket}/folders
POST storage.folders.rename b/{bucket}/folders/{sourceFolder}/renameTo/folders/{folder}
DELETE storage.managedFolders.delete b/{bucket}/managedFolders/{folder}
GET storage.managedFolders.get b/{bucket}/managedFolders/{folder}
GET storage.managedFolders.getIamPolicy b/{bucket}/managedFolders/{folder}/iam
POST storage.managedFolders.insert b/{bucket}/managedFolders
GET storage.managedFolders.list b/{bucket}/managedFolders
PUT storage.managedFolders.setIamPolicy b/{bucket}/managedFolders/{folder}/iam
GET storage.managedFolders.testIamPermissions b/{bucket}/managedFolders/{folder}/iam/testPermissions
DELETE storage.notifications.delete b/{bucket}/notificationConfigs/{id}
GET storage.notifications.get b/{bucket}/notificationConfigs/{id}
POST storage.notifications.insert b/{bucket}/notificationConfigs
GET storage.notifications.list b/{bucket}/notificationConfigs
POST storage.buckets.operations.advanceRelocateBucket b/{bucket}/operations/{id}/advanceRelocateBucket
POST storage.buckets.operations.cancel b/{bucket}/operations/{id}/cancel
GET storage.buckets.operations.get b/{bucket}/operations/{id}
GET storage.buckets.operations.list b/{bucket}/operations
POST storage.projects.hmacKeys.create projects/{project}/hmacKeys
DELETE storage.projects.hmacKeys.delete projects/{project}/hmacKeys/{id}
GET storage.projects.hmacKeys.get projects/{project}/hmacKeys/{id}
GET storage.projects.hmacKeys.list projects/{project}/hmacKeys
PUT storage.projects.hmacKeys.update projects/{project}/hmacKeys/{id}
GET storage.projects.serviceAccount.get projects/{project}/serviceAccount
"""
_ACL = (
    ("bucketAccessControls", "b/{bucket}/acl"),
    ("defaultObjectAccessControls", "b/{bucket}/defaultObjectAcl"),
    ("objectAccessControls", "b/{bucket}/o/{object}/acl"),
)


@dataclass(frozen=True)
class Method:
    name: str
    verb: str
    path: tuple[str, ...]


@dataclass(frozen=True)
class Matched:
    name: str
    """`storage.objects.get`"""
    kind: Kind
    """Which of the three addresses it was called by: what is uploaded and downloaded has its own."""
    arguments: dict[str, str]
    """Of the path, decoded."""


def _acl_methods() -> list[Method]:
    found = []
    for resource, base in _ACL:
        path = tuple(base.split("/"))
        for name, verb, entity in (
            ("delete", "DELETE", True),
            ("get", "GET", True),
            ("insert", "POST", False),
            ("list", "GET", False),
            ("patch", "PATCH", True),
            ("update", "PUT", True),
        ):
            found.append(Method(f"storage.{resource}.{name}", verb, (*path, "{entity}") if entity else path))
    return found


def _rows() -> list[Method]:
    found = []
    for line in _TABLE.split("\n"):
        if line:
            verb, name, path = line.split(" ")
            found.append(Method(name, verb, tuple(path.split("/"))))
    return found


METHODS: tuple[Method, ...] = (*_rows(), *_acl_methods())


def match(verb: str, raw_path: str) -> Matched | None:
    """The method that a request calls; None where there is none. `raw_path` is percent-encoded, without query.

    The resumable upload's PUT and DELETE go to the address of objects.insert.
    """
    for prefix, kind in _PREFIXES:
        if raw_path.startswith(prefix):
            segments = [unquote(segment) for segment in raw_path.removeprefix(prefix).split("/")]
            wanted = "POST" if kind == "upload" and verb in ("PUT", "DELETE") else verb
            return _find(wanted, segments, kind)
    return None


def _find(verb: str, segments: list[str], kind: Kind) -> Matched | None:
    for method in METHODS:
        if method.verb != verb or len(method.path) != len(segments):
            continue
        arguments = _arguments(method.path, segments)
        if arguments is not None:
            return Matched(method.name, kind, arguments)
    return None


def _arguments(path: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    found = {}
    for part, segment in zip(path, segments, strict=True):
        if part.startswith("{") and segment:
            found[part[1:-1]] = segment
        elif part != segment:
            return None
    return found
