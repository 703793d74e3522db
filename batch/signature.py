"""Ed25519 signatures of a delivery: making a key, signing bytes, checking them.

A signature is the 64 raw bytes that `openssl pkeyutl -verify -rawin` reads as well.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from segstudio.errors import MissingExtraError, SegstudioError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

PASSWORD_VARIABLE: Final = "SEGSTUDIO_KEY_PASSWORD"  # noqa: S105 - a variable's name
_MAX_KEY_BYTES: Final = 1 << 16


def make_key(path: Path) -> Path:
    """Write a new private key as PEM, readable by its owner alone; return the public key's path.

    The public key, which whoever receives deliveries needs, lies beside it as `X.pub.pem`.

    Raises:
        UsageError: one of the two files is there; a key is never written over.
    """
    _require_library()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    public_path = path.with_name(f"{path.name.removesuffix('.pem')}.pub.pem")
    if public_path.exists():
        raise UsageError(f"{public_path} is there already; choose another name for the new key.")
    _write_new(path, private, 0o600)
    _write_new(public_path, public, 0o644)
    return public_path


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key to sign with: an Ed25519 private key as PEM.

    The password of an encrypted key is taken from SEGSTUDIO_KEY_PASSWORD.

    Raises:
        UsageError: no such key, or one that others on this machine can read.
    """
    _require_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UsageError(
            f"The key {path} can be read by others (mode {mode:04o}). Run: chmod 600 {path}"
        )
    password = os.environ.get(PASSWORD_VARIABLE)
    try:
        key = load_pem_private_key(content, password.encode() if password else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{path} is no private key in PEM that can be read ({error}). `segstudio deliver "
            f"keygen` makes one; the password of an encrypted key goes into {PASSWORD_VARIABLE}."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"The key {path} is no Ed25519 key; make one: segstudio deliver keygen.")
    return key


def load_public_key(path: Path) -> bytes:
    """Return the 32 raw bytes of an Ed25519 public key in PEM.

    Raises:
        UsageError: no such key.
    """
    _require_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{path} is no public key in PEM ({error}); it is the file X.pub.pem that `segstudio "
            "deliver keygen` wrote beside the private key."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"The key {path} is no Ed25519 key.")
    return key.public_bytes_raw()


def public_key_text(key: Ed25519PrivateKey) -> str:
    """Return the public half of a key in base64, as a manifest names it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def public_key_bytes(text: str) -> bytes:
    """Return the 32 bytes of a public key that a manifest names.

    Raises:
        ValueError: the text is no such key.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{text!r} is no base64") from error
    if len(content) != 32:
        raise ValueError(f"{text!r} has {len(content)} bytes, not 32")
    return content


def is_signed_by(public_key: bytes, signature: bytes, content: bytes) -> bool:
    """Tell whether the signature is of these bytes and made with the private half of this key."""
    _require_library()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key: Ed25519PublicKey = Ed25519PublicKey.from_public_bytes(public_key)
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise UsageError(f"The key {path} cannot be read: {error.strerror or error}.") from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise UsageError(f"{path} is there already; choose another name for the key.") from error
    except OSError as error:
        raise SegstudioError(f"{path} cannot be written: {error.strerror or error}.") from error
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _require_library() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Signing a delivery", "cryptography", "sign") from error
