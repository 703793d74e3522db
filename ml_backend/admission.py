"""How many requests may be inside at once, so that too many are told so at the door.

Counted on the event loop only, hence without locks. Small bodies are bounded by their number, large
ones by slots: memory is bounded whatever arrives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Admission", "Full"]


class Full(Exception):  # noqa: N818 - it is an answer, not a fault
    """No room; the message says for what, `retry_after_s` when to come again."""

    def __init__(self, sentence: str, retry_after_s: int) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class Admission:
    """Counts what is inside under a name, up to a limit.

    >>> door = Admission("clicks", 1, retry_after_s=1)
    >>> with door.enter(), door.enter():
    ...     pass
    Traceback (most recent call last):
    ml_backend.admission.Full: The server has 1 clicks to answer already; try again in 1 s.
    >>> door.inside
    0
    """

    def __init__(self, name: str, limit: int, retry_after_s: int) -> None:
        self.name = name
        self.limit = limit
        self.retry_after_s = retry_after_s
        self.inside = 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be inside for the duration of the block. Raises Full."""
        if self.inside >= self.limit:
            raise Full(
                f"The server has {self.limit} {self.name} to answer already; try again in "
                f"{self.retry_after_s} s.",
                self.retry_after_s,
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
