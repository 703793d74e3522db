"""Segmentation for Label Studio: its annotations as exact masks, and what stands on them."""

from typing import Any

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("segstudio")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
