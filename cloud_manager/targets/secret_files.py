"""Secrets as files of a folder of the manager's: one file per secret."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import TargetError
from cloud_manager.targets.local_spec import secret_file


def read_secrets(folder: Path | None, spec: DeploymentSpec) -> dict[str, str]:
    """Variable -> value, of `deploy.secrets`. Without its last newline: an editor puts one there.

    Raises:
        TargetError: `secret_missing`, or not a secret's name.
    """
    values = {}
    for variable, reference in spec.deploy.secrets.items():
        path = (folder or Path("SECRETS_DIR")) / secret_file(reference)
        try:
            values[variable] = path.read_text().removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise TargetError(
                f"deploy.secrets.{variable}: cannot read {path}: {reason}",
                "put the secret's value into that file, readable by the manager",
                code="secret_missing",
            ) from error
    return values


def mark_of(folder: Path | None, spec: DeploymentSpec, salt: str) -> str:
    """As `target.SecretReader`. Blocking. Raises as `read_secrets`."""
    values = json.dumps(sorted(read_secrets(folder, spec).items())).encode()
    return hmac.new(bytes.fromhex(salt), values, hashlib.sha256).hexdigest()
