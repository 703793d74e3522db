"""What the operator of the server chooses, checked once before anything is loaded."""

from __future__ import annotations

import ipaddress
import os
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segstudio.errors import SegstudioError

__all__ = ["Settings", "SettingsError", "default_cache_dir", "is_loopback"]

_SECRET_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-_")
_MIN_SECRET_LENGTH = 12
ANSWER_KINDS = ("brush", "bitmask", "polygon", "rectangle")


class SettingsError(SegstudioError):
    """Settings that contradict each other or are unsafe; a sentence says what to change."""

    exit_code = 2


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def default_cache_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Folder for embeddings and models: `SEGSTUDIO_CACHE`, else the user's cache folder."""
    if chosen := environment.get("SEGSTUDIO_CACHE"):
        return Path(chosen)
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "segstudio"


@dataclass(frozen=True)
class Settings:
    """Everything the server can be told. Secrets are kept out of `repr`."""

    model: str = "tiny"
    device: str = "auto"
    threads: int | None = None
    host: str = "127.0.0.1"
    port: int = 9090
    label_studio_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    secret_path: str | None = field(default=None, repr=False)
    no_auth: bool = False
    allowed_hosts: tuple[str, ...] = ()
    local_roots: tuple[Path, ...] = ()
    answer_kind: str | None = None
    polygon_tolerance_px: float = 1.0
    embeddings_dir: Path | None = None
    memory_limit_bytes: int = 512 << 20
    disk_limit_bytes: int = 8 << 30
    image_cache_bytes: int = 256 << 20
    image_cache_ttl_s: float = 300.0
    max_body_bytes: int = 64 << 20
    max_image_bytes: int = 128 << 20
    max_image_pixels: int = 100_000_000
    queue_limit: int = 64
    predict_deadline_s: float = 90.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"Port {self.port} does not exist; choose one from 1 to 65535.")
        if self.answer_kind is not None and self.answer_kind not in ANSWER_KINDS:
            raise SettingsError(
                f"Answers cannot be {self.answer_kind!r}; choose one of {', '.join(ANSWER_KINDS)}."
            )
        if self.secret_path is not None and (
            len(self.secret_path) < _MIN_SECRET_LENGTH
            or not set(self.secret_path) <= _SECRET_CHARACTERS
        ):
            raise SettingsError(
                f"A secret path needs at least {_MIN_SECRET_LENGTH} characters, only letters, "
                f"digits, '-' and '_'; for example {secrets.token_urlsafe(16)}."
            )
        if self.basic_auth is not None and not all(self.basic_auth):
            raise SettingsError("Basic authentication needs a user and a password: USER:PASSWORD.")
        if not is_loopback(self.host) and not (self.has_auth or self.no_auth):
            raise SettingsError(
                f"Other machines could reach the server on {self.host}: set --basic-auth or "
                f"--secret-path, or say --no-auth-i-know if something else guards it."
            )

    @property
    def has_auth(self) -> bool:
        """Whether callers must know a password or the secret path."""
        return self.basic_auth is not None or self.secret_path is not None

    @property
    def prefix(self) -> str:
        """Path before every endpoint: empty, or the secret segment with its slash."""
        return f"/{self.secret_path}" if self.secret_path else ""
