"""What a run leaves for the next one: passwords, the access token, ports. Readable by us only."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from segstudio.errors import SegstudioError


class StateFile:
    """A small JSON object in a file of mode 0600, written atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        """The object; empty when there is no file yet.

        Raises:
            SegstudioError: The file is not what was written.
        """
        try:
            state = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise SegstudioError(
                f"{self.path} cannot be read ({error}). Delete {self.path.parent} to start over."
            ) from error
        if not isinstance(state, dict):
            raise SegstudioError(
                f"{self.path} holds a {type(state).__name__} where an object is expected. "
                f"Delete {self.path.parent} to start over."
            )
        return state

    def update(self, **values: Any) -> None:
        """Sets these keys and keeps the others."""
        state = {**self.read(), **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes the file with mode 0600.
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".state-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(state, file, indent=1, sort_keys=True)
            Path(temporary).replace(self.path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise

    def password(self, email: str) -> str:
        """The password of this log-in, made when it is first asked for."""
        passwords: dict[str, str] = dict(self.read().get("passwords", {}))
        if email not in passwords:
            passwords[email] = secrets.token_urlsafe(9)
            self.update(passwords=passwords)
        return passwords[email]
