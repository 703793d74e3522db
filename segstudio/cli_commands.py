"""A command that has commands of its own beside it, such as `segstudio qa` and `qa watch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class CommandWithOthers(click.Command):
    """A command whose first word may be the name of another: `deliver SOURCE`, `deliver verify X`.

    A click group would take everything before the first word for its own options and refuse
    `segstudio qa --out DIR agreement SOURCE`.

        @click.command(cls=CommandWithOthers)
        def deliver(...): ...

        deliver.add_other("verify", lambda: verify)
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._others: dict[str, Callable[[], click.Command]] = {}

    def add_other(self, name: str, load: Callable[[], click.Command]) -> None:
        """Add the command of this name; `load` gives it, and may import it."""
        self._others[name] = load

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Hand over to the command that the first word names, if any."""
        if args and args[0] in self._others:
            chosen = self._others[args[0]]()
            return chosen.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the context was made for."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)
