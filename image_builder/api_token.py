"""The API_TOKEN as an operator gives it."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import SecretStr

from image_builder.errors import BuildError

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}").fullmatch
"""https://www.rfc-editor.org/rfc/rfc6750#section-2.1, and long enough that nobody finds it by trying."""


class BadToken(BuildError):
    """API_TOKEN is not one, or its file cannot be read."""

    code = "bad_api_token"


def token_of(token: SecretStr | None, file: Path | None) -> str:
    """The token of API_TOKEN or API_TOKEN_FILE; empty without one. Blocking: the file is read.

    Raises:
        BadToken: says what is wrong, without the token.
    """
    given = token.get_secret_value().strip() if token else ""
    if given and file:
        raise BadToken("API_TOKEN and API_TOKEN_FILE are both set", "Keep one of them.")
    if file:
        try:
            given = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise BadToken(f"API_TOKEN_FILE={file} cannot be read: {reason}", "Write the token into it.") from error
    if (given or file) and not _TOKEN(given):
        where = "the file of API_TOKEN_FILE" if file else "API_TOKEN"
        fix = "Take 16 to 512 of letters, digits and ._~+/=-, e.g. what `openssl rand -hex 32` prints."
        raise BadToken(f"{where} holds no token that can be sent", fix)
    return given
