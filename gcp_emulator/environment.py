"""What a client needs to know, as files in the state folder: after `. DIR/environment`, Google is the twin."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from gcp_emulator.accounts import Account, key_file
from gcp_emulator.settings import Host, Settings


def write_files(settings: Settings, host: Host, account: Account, ca: Path, ports: Mapping[str, int]) -> Path:
    """The environment file; `ports` are those of `proxy` and `control`."""
    folder = settings.state.absolute()
    key = folder / "service-account.json"
    _write(key, json.dumps(key_file(account, settings.project), indent=2) + "\n")
    bundle = folder / "ca-bundle.pem"
    _write(bundle, _bundle(host, ca))
    boto = folder / "boto.cfg"
    _write(boto, _boto(ports["proxy"], key, bundle))
    values = variables(settings, host, ports, folder)
    environment = folder / "environment"
    _write(environment, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()))
    return environment


def variables(settings: Settings, host: Host, ports: Mapping[str, int], folder: Path) -> dict[str, str]:
    """gRPC reads the first trust file, python's and Go's HTTP clients and curl the others; gcloud its own names."""
    proxy = f"http://127.0.0.1:{ports['proxy']}"
    bundle, key = str(folder / "ca-bundle.pem"), str(folder / "service-account.json")
    loopback = ["localhost", "127.0.0.1", "::1"]
    not_proxied = ",".join(dict.fromkeys([*filter(None, host.no_proxy.split(",")), *loopback]))
    return {
        "https_proxy": proxy,
        "HTTPS_PROXY": proxy,
        "no_proxy": not_proxied,
        "NO_PROXY": not_proxied,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(folder / "ca.pem"),
        "SSL_CERT_FILE": bundle,
        "REQUESTS_CA_BUNDLE": bundle,
        "CURL_CA_BUNDLE": bundle,
        "GOOGLE_APPLICATION_CREDENTIALS": key,
        "GOOGLE_CLOUD_PROJECT": settings.project,
        "GCP_REGION": settings.region,
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_CORE_PROJECT": settings.project,
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": bundle,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": key,
        "CLOUDSDK_RUN_REGION": settings.region,
        "BOTO_CONFIG": str(folder / "boto.cfg"),
        "GCP_EMULATOR_CONTROL": f"http://127.0.0.1:{ports['control']}",
    }


def _bundle(host: Host, ca: Path) -> str:
    """What this machine trusts besides the twin, for what is not proxied, e.g. its package index."""
    return ca.read_text() + (host.trusted.read_text() if host.trusted else "")


def _boto(proxy_port: int, key: Path, bundle: Path) -> str:
    """For gsutil: https://cloud.google.com/storage/docs/boto-gsutil"""
    return (
        f"[Credentials]\ngs_service_key_file = {key}\n"
        f"[Boto]\nproxy = 127.0.0.1\nproxy_port = {proxy_port}\nca_certificates_file = {bundle}\n"
        f"[GSUtil]\nsoftware_update_check_period = 0\n"
    )


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)
