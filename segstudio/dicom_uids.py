"""New UIDs and pseudonyms for old ones: the same for the same, by a secret, without a table.

A keyed hash (HMAC-SHA-256) makes them: nobody without the secret can find or confirm the old
value, and two runs with the same secret agree.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from segstudio.errors import UsageError

SECRET_BYTES: Final = 32
_LEAST_SECRET_BYTES: Final = 16
_MAX_SECRET_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class UidReplacer:
    """Replaces UIDs and patients' identities with the help of a secret.

    >>> replacer = UidReplacer(b"0123456789abcdef")
    >>> replacer.replace("1.2.3") == replacer.replace("1.2.3")
    True
    >>> replacer.replace("1.2.3")[:5]
    '2.25.'
    """

    secret: bytes

    def replace(self, uid: str) -> str:
        """Return the new UID: a UUID in decimal below 2.25 (DICOM PS3.5, B.2).

        122 bits of the hash decide it: two different UIDs of a set of a billion have the same
        with a probability of 1 in 10 to the 19th.
        """
        digest = self._digest("uid", uid.strip(" \0"))
        return f"2.25.{UUID(bytes=digest[:16], version=4).int}"

    def pseudonym(self, kind: str, identity: str) -> str:
        """Return e.g. "patient-5f1c0a9b3d" for a patient's identity."""
        return f"{kind}-{self._digest(kind, identity).hex()[:10]}"

    def _digest(self, purpose: str, value: str) -> bytes:
        message = f"{purpose}\0{value}".encode("utf-8", "surrogateescape")
        return hmac.new(self.secret, message, hashlib.sha256).digest()


def new_secret() -> bytes:
    """Return a random secret for one run."""
    return secrets.token_bytes(SECRET_BYTES)


def read_secret(path: Path) -> bytes:
    """Read the secret of a file, which is made, readable by its owner only, when missing.

    Raises:
        UsageError: others may read it, or it is too short or too long.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(SECRET_BYTES).encode() + b"\n")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UsageError(
            f"Others may read {path}: who has it can link new UIDs to old ones. Run: chmod 600 "
            f"{path}"
        )
    with path.open("rb") as opened:
        secret = opened.read(_MAX_SECRET_BYTES + 1).strip()
    if not _LEAST_SECRET_BYTES <= len(secret) <= _MAX_SECRET_BYTES:
        raise UsageError(
            f"{path} holds {len(secret)} bytes; a secret has {_LEAST_SECRET_BYTES} to "
            f"{_MAX_SECRET_BYTES}. Name a file that does not exist to have one made."
        )
    return secret


def key_entry(file: str, source: str, replaced: Mapping[str, str], patient: str,
              identity: Mapping[str, str]) -> dict[str, object]:  # fmt: skip
    """Return a line of the key file: what leads from the output back to one original file."""
    return {
        "file": file,
        "source": source,
        "patient": patient,
        "original": dict(identity),
        "uids": dict(replaced),
    }
