"""Labelling interfaces and taxonomies ready to use, one folder a domain."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parent
LABEL_CONFIG_FILE = "label-config.xml"
TAXONOMY_FILE = "taxonomy.yaml"


def list_domains() -> tuple[str, ...]:
    """Return the names of the domains, sorted: each has an interface and a taxonomy."""
    return tuple(sorted(file.parent.name for file in _ROOT.glob(f"*/{LABEL_CONFIG_FILE}")))


def load_label_config(domain: str) -> str:
    """Return a domain's labelling interface as XML, as Label Studio takes it.

    Raises:
        ValueError: there is no such domain.
    """
    return (_folder(domain) / LABEL_CONFIG_FILE).read_text(encoding="utf-8")


def taxonomy_path(domain: str) -> Path:
    """Return where a domain's taxonomy is, for `segstudio.taxonomy.load_taxonomy`.

    Raises:
        ValueError: there is no such domain.
    """
    return _folder(domain) / TAXONOMY_FILE


def _folder(domain: str) -> Path:
    if domain not in list_domains():
        raise ValueError(
            f'There is no label config for the domain "{domain}"; '
            f"there are {', '.join(list_domains())}."
        )
    return _ROOT / domain
