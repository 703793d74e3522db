"""What a delivery is made with: the settings, checked before anything is read."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from segstudio.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PACKAGES: Final = (
    "numpy", "scipy", "numba", "pillow", "zlib-ng", "opencv-python-headless", "pycocotools",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """What is to be delivered, and how.

    Attributes:
        formats: export formats, each once.
        gates: a file or the name of a preset; None only with an override.
        override: why it is delivered although something speaks against it.
        annotations: the policy, see `segstudio.selection`.
        guideline: a file that goes into the delivery.
        key: signs the manifest.
        checks: beside agreement and validation, e.g. gold.
        check_options: of the checks.
        options: of each format, by its name.
        overlap: the overlap policy.
        images: "copy", "reference" or "none".
        roots: folders of this machine with the images of a file source.
        pictures: how many of the worst tasks the report shows.
        history: where snapshots of annotations are kept.
        replace: an earlier delivery in the same place may be replaced.
    """

    formats: tuple[str, ...]
    gates: str | None = None
    override: str | None = None
    annotations: str | None = None
    guideline: Path | None = None
    key: Ed25519PrivateKey | None = None
    checks: tuple[str, ...] = ()
    check_options: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    overlap: str = "draw-order"
    images: str = "reference"
    roots: tuple[Path, ...] = ()
    pictures: int = 6
    history: Path | None = None
    replace: bool = False


def check_settings(settings: DeliverySettings) -> None:
    """Refuse what makes no sense.

    Raises:
        UsageError: unknown gates, format, check or policy, or neither gates nor an override.
    """
    from qa_plugins.gates import load_gates
    from segstudio.plugins import find_check, find_exporter
    from segstudio.selection import parse_policy

    if settings.override is not None and not settings.override.strip():
        raise UsageError("--override needs a reason, which the manifest records.")
    if settings.gates is None and settings.override is None:
        raise UsageError(
            "Name what the batch must reach, for example --gates miou-0.84. Without gates nothing "
            'is delivered, unless --override "reason" says why.'
        )
    if not settings.formats:
        raise UsageError("Name at least one format, for example: --format coco-panoptic.")
    for name in settings.formats:
        find_exporter(name)
    for name in settings.checks:
        find_check(name)
    load_gates(settings.gates)
    parse_policy(settings.annotations)
    if settings.guideline is not None and settings.guideline.name in ("", ".", ".."):
        raise UsageError(f"The guideline {settings.guideline} is no file.")


def gates_path(spec: str) -> Path:
    """Return the file that `--gates` means: a preset's, or the one of that path."""
    from qa_plugins.gates import PRESETS_DIR, preset_names

    return PRESETS_DIR / f"{spec}.yaml" if spec in preset_names() else Path(spec)


def named_files(options: Mapping[str, str]) -> dict[str, Any]:
    """Return options for a manifest: of a file its name and hash, never its folder."""
    named: dict[str, Any] = {}
    for key, value in sorted(options.items()):
        path = Path(value)
        with_content = _is_file(path)
        named[key] = {"file": path.name, "sha256": sha256_of(path)} if with_content else value
    return named


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text that no path can be
        return False


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the bytes depend on."""
    from segstudio.cli import installed_version

    found = {"segstudio": installed_version(), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # pragma: no cover - all of them are required
            continue
    return found


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
