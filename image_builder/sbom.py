"""A bill of materials of an image, as CycloneDX 1.6: https://cyclonedx.org/docs/1.6/json/. Pure.

CycloneDX rather than SPDX: scanners take both, and its python library is kept up by the format's own makers.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any
from urllib.parse import quote

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from image_builder.contents import ImageFacts, InstalledPackage, LayerFacts, Package, SystemSoftware

MEDIA_TYPE = "application/vnd.cyclonedx+json; version=1.6"

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def cyclonedx(image: ImageFacts) -> str:
    """JSON text. The same image has the same text: its serial number comes from the digest, and it has no time."""
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"oci:{image.digest}"))
    bom.metadata.component = _image(image)
    parts = [_package(package, image) for package in image.packages or ()]
    if image.system:
        parts += _system(image.system)
    if image.base:
        parts.append(_base(image.base))
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(bom.metadata.component, parts)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _image(image: ImageFacts) -> Component:
    return Component(
        name="image",
        version=image.digest,
        type=ComponentType.CONTAINER,
        bom_ref=image.digest,
        hashes=[_sha256(image.digest.partition(":")[2])],
        purl=PackageURL("oci", None, "image", image.digest, {"arch": image.platform.partition("/")[2]}),
        properties=[Property(name=f"cloud-deploy:label:{name}", value=text) for name, text in image.labels.items()],
    )


def _package(package: Package, image: ImageFacts) -> Component:
    purl = PackageURL("pypi", None, package.name, package.version, {"file_name": package.wheel})
    layer = next((layer for layer in image.layers if package.wheel in layer.wheels), None)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=purl.to_string(),
        purl=purl,
        hashes=[_sha256(package.sha256)],
        licenses=[LicenseFactory().make_from_string(package.license)] if package.license else [],
        properties=_where(layer),
    )


def _system(system: SystemSoftware) -> list[Component]:
    """What comes from elsewhere; scanners match it by purl and distribution."""
    parts = [_installed(package, system) for package in system.packages]
    if system.distribution:
        name, version = system.distribution, system.release or None
        ref = f"os:{name}-{system.release}"
        parts.append(Component(name=name, version=version, type=ComponentType.OPERATING_SYSTEM, bom_ref=ref))
    return parts


def _installed(package: InstalledPackage, system: SystemSoftware) -> Component:
    """https://github.com/package-url/purl-spec/blob/main/PURL-TYPES.rst"""
    facts = {"arch": package.architecture, "upstream": package.source}
    if package.kind != "pypi":
        facts["distro"] = "-".join(part for part in (system.distribution, system.release) if part)
    namespace = None if package.kind == "pypi" else (system.distribution or None)
    told = {name: value for name, value in facts.items() if value}
    purl = PackageURL(package.kind, namespace, package.name, package.version, told or None)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{purl.to_string()}#{package.where}" if package.where else purl.to_string(),
        purl=purl,
        properties=[Property(name="cloud-deploy:folder", value=package.where)] if package.where else [],
    )


def _where(layer: LayerFacts | None) -> list[Property]:
    return [Property(name="cloud-deploy:layer", value=layer.digest)] if layer else []


def _base(reference: str) -> Component:
    repository = reference.partition("@")[0]
    name = repository.rpartition("/")[2].partition(":")[0]
    match = _DIGEST.search(reference)
    return Component(
        name=repository,
        version=match[0] if match else None,
        type=ComponentType.CONTAINER,
        bom_ref=f"base:{quote(reference, safe=':/@')}",
        hashes=[_sha256(match[1])] if match else [],
        purl=PackageURL("oci", None, name, match[0] if match else None, {"repository_url": repository}),
    )


def _sha256(value: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=value)
