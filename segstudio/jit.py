"""Compiled functions: numba loaded on first use, with a compile cache that always works.

Modules of kernels import this one and are themselves imported inside functions, so that importing
the package stays fast. The cache notices a change of the module a kernel is in, not of a module
whose kernels it calls: after changing `run_kernels`, remove the `*.nbi` files of the others.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Compile a function with numba on its first call and keep the machine code on disk.

    The code is kept beside the module or, where that is read-only (a container, a system-wide
    installation), in a private folder under the temporary directory.
    """
    import numba

    config: Any = numba.config
    if not config.CACHE_DIR and not _is_writable(Path(__file__).parent / "__pycache__"):
        config.CACHE_DIR = str(_private_folder())
    return cast(_Function, numba.njit(cache=True, nogil=True)(function))


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _private_folder() -> Path:
    """A folder that only this user can write: cached code is loaded and run."""
    folder = Path(tempfile.gettempdir()) / f"segstudio-kernels-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="segstudio-kernels-"))
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if private and not status.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix="segstudio-kernels-"))
