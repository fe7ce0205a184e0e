"""Buckets and objects as JSON: names, what a client may write, what the service adds. Pure.

https://cloud.google.com/storage/docs/json_api/v1/buckets#resource-representations,
https://cloud.google.com/storage/docs/json_api/v1/objects#resource-representations
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from gcp_emulator.storage_checksums import Sums, base64_of
from gcp_emulator.storage_errors import invalid, unimplemented

Json = dict[str, Any]
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_OBJECT_FIELDS = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "metadata",
)
_BUCKET_FIELDS = ("cors", "defaultEventBasedHold", "iamConfiguration", "labels", "lifecycle", "rpo", "storageClass")
_BUCKET_FIELDS_KEPT = ("softDeletePolicy", "website", "autoclass")
_UNSERVED_OBJECT = ("temporaryHold", "eventBasedHold", "retention", "acl", "contexts")
_UNSERVED_BUCKET = (
    "acl",
    "billing",
    "customPlacementConfig",
    "defaultObjectAcl",
    "encryption",
    "hierarchicalNamespace",
    "ipFilter",
    "logging",
    "objectRetention",
    "retentionPolicy",
    "versioning",
)
STORAGE_CLASSES = frozenset(
    {"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY"}
)
_MULTI_REGIONS = frozenset({"US", "EU", "ASIA"})
_DUAL_REGIONS = frozenset({"NAM4", "EUR4", "EUR5", "EUR7", "EUR8", "ASIA1"})


def check_bucket_name(name: str) -> str:
    """The name. Raises StorageError 400. https://cloud.google.com/storage/docs/buckets#naming"""
    parts_fit = all(0 < len(part) <= 63 for part in name.split("."))
    reserved = name.startswith("goog") or "google" in name or _ADDRESS.fullmatch(name) is not None
    if not _BUCKET.fullmatch(name) or not parts_fit or reserved or (len(name) > 63 and "." not in name):
        raise invalid(f"Invalid bucket name: '{name}'")
    return name


def check_object_name(name: str) -> str:
    """The name. Raises StorageError 400. https://cloud.google.com/storage/docs/objects#naming"""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # half a surrogate pair, as JSON can say it
        raise invalid("The specified object name is not valid.") from None
    if not 1 <= size <= 1024 or {"\r", "\n"} & set(name) or name in (".", ".."):
        raise invalid("The specified object name is not valid.")
    if name.startswith(".well-known/acme-challenge/"):
        raise invalid("The specified object name is not valid.")
    return name


def writable_object(sent: Json) -> Json:
    """What of an object's metadata a client may write. Raises StorageError 501 for what is not served."""
    _refuse(sent, _UNSERVED_OBJECT, "objects")
    texts("metadata", sent.get("metadata"))
    texts("object", {key: sent.get(key) for key in _OBJECT_FIELDS if key != "metadata"}, header=True)
    return {key: sent[key] for key in _OBJECT_FIELDS if key in sent}


def writable_bucket(sent: Json) -> Json:
    """The same for a bucket. lifecycle, cors, website and softDeletePolicy are kept, and have no effect."""
    _refuse(sent, _UNSERVED_BUCKET, "buckets")
    wanted = {key: sent[key] for key in (*_BUCKET_FIELDS, *_BUCKET_FIELDS_KEPT) if key in sent}
    storage_class(wanted.get("storageClass"))
    texts("labels", wanted.get("labels"))
    texts("bucket", {"location": sent.get("location")})
    configuration = mapping("iamConfiguration", wanted.get("iamConfiguration"))
    for key in ("uniformBucketLevelAccess", "bucketPolicyOnly"):
        texts(key, {"lockedTime": mapping(key, configuration.get(key)).get("lockedTime")})
    return wanted


def mapping(field: str, value: Any) -> Json:
    """The value, which is to be an object; null is an empty one. Raises StorageError 400."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(f"Invalid value for field '{field}': it is no object.")
    return value


def texts(field: str, value: Any, *, header: bool = False) -> None:
    """Of an object all of whose values are texts (fit for a header), or null. Raises StorageError 400."""
    for text in mapping(field, value).values():
        if text is not None and not (isinstance(text, str) and (text.isprintable() or not header)):
            raise invalid(f"Invalid value in field '{field}': it is no {'printable ' if header else ''}text.")


def _refuse(sent: Json, fields: tuple[str, ...], resource: str) -> None:
    """What switches a feature off is granted: it is off."""
    for key in fields:
        asked = sent.get(key)
        off = not asked or asked in ({"enabled": False}, {"enabled": None})
        if not off:
            raise unimplemented(f"the field {key} of {resource}")


def storage_class(name: Any) -> str:
    """STANDARD where none is named. Raises StorageError 400."""
    if name is None:
        return "STANDARD"
    if not isinstance(name, str) or name not in STORAGE_CLASSES:
        raise invalid(f"Invalid argument: storage class {name} does not exist.")
    return name


def merged(kept: Json, patch: Json) -> Json:
    """JSON merge patch: null removes, objects are merged, all else replaces. https://www.rfc-editor.org/rfc/rfc7396"""
    result = dict(kept)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return {key: value for key, value in result.items() if value != {}}


def new_bucket(name: str, sent: Json, *, project_number: str, now: str) -> Json:
    location = str(sent.get("location") or "US").upper()
    bucket: Json = {
        "name": name,
        "projectNumber": project_number,
        "metageneration": "1",
        "location": location,
        "locationType": location_type(location),
        "timeCreated": now,
        "updated": now,
        **writable_bucket(sent),
    }
    bucket["storageClass"] = storage_class(sent.get("storageClass"))
    bucket["iamConfiguration"] = iam_configuration(bucket.get("iamConfiguration") or {}, now)
    return bucket


def location_type(location: str) -> str:
    if location in _MULTI_REGIONS:
        return "multi-region"
    return "dual-region" if location in _DUAL_REGIONS else "region"


def iam_configuration(sent: Json, now: str) -> Json:
    """uniformBucketLevelAccess under its older name too, as the service answers it."""
    asked = sent.get("uniformBucketLevelAccess") or sent.get("bucketPolicyOnly") or {}
    uniform: Json = {"enabled": bool(asked.get("enabled"))}
    if uniform["enabled"]:
        uniform["lockedTime"] = asked.get("lockedTime") or later(now, days=90)
    prevention = sent.get("publicAccessPrevention") or "inherited"
    if prevention not in ("inherited", "enforced", "unspecified"):
        raise invalid(f"Invalid value for publicAccessPrevention: {prevention}")
    return {
        "uniformBucketLevelAccess": uniform,
        "bucketPolicyOnly": uniform,
        "publicAccessPrevention": "inherited" if prevention == "unspecified" else prevention,
    }


@dataclass(frozen=True)
class Birth:
    """What the service says of an object that begins."""

    generation: int
    now: str
    storage_class: str
    """Of its bucket, for one that names none."""


def new_object(target: tuple[str, str], sent: Json, sums: Sums, birth: Birth) -> Json:
    """`target`: bucket and name; `sent`: the client's metadata. Raises StorageError 400, 501."""
    times = ("timeCreated", "updated", "timeStorageClassUpdated", "timeFinalized")
    resource: Json = {
        "name": target[1],
        "bucket": target[0],
        "generation": str(birth.generation),
        "metageneration": "1",
        "storageClass": storage_class(sent.get("storageClass") or birth.storage_class),
        "size": str(sums.size),
        "crc32c": sums.crc32c,
        **dict.fromkeys(times, birth.now),
        **{key: value for key, value in writable_object(sent).items() if value not in (None, {})},
    }
    if sums.md5 is not None:
        resource["md5Hash"] = sums.md5
    return resource


def shown_bucket(bucket: Json, base: str) -> Json:
    """`base`: scheme and host that the client used."""
    return {
        "kind": "storage#bucket",
        "id": bucket["name"],
        "selfLink": f"{base}/storage/v1/b/{bucket['name']}",
        "etag": etag_of_bucket(bucket),
        **bucket,
    }


def shown_object(resource: Json, base: str) -> Json:
    bucket, generation = resource["bucket"], resource["generation"]
    name = quote(resource["name"], safe="")
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{resource['name']}/{generation}",
        "selfLink": f"{base}/storage/v1/b/{bucket}/o/{name}",
        "mediaLink": f"{base}/download/storage/v1/b/{bucket}/o/{name}?generation={generation}&alt=media",
        "etag": etag_of_object(resource),
        **resource,
    }


def etag_of_object(resource: Json) -> str:
    return base64_of(_field(1, int(resource["generation"])) + _field(2, int(resource["metageneration"])))


def etag_of_bucket(bucket: Json) -> str:
    return base64_of(_field(1, int(bucket["metageneration"])))


def _field(number: int, value: int) -> bytes:
    """A varint of protobuf: what the service's etags are made of."""
    written = bytearray([number << 3])
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def timestamp(now: float) -> str:
    """RFC 3339 in UTC with milliseconds, as the service writes it."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def later(moment: str, *, days: int) -> str:
    return timestamp(datetime.fromisoformat(moment).timestamp() + days * 86_400)
