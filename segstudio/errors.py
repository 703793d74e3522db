"""The errors that a user may meet: sentences that say what was wrong, where, and what to do.

Exit codes of the command line: 0 fine, 1 a gate failed, 2 usage, 3 input or server trouble.
"""

EXIT_OK = 0
EXIT_GATE_FAILED = 1
EXIT_USAGE = 2
EXIT_TROUBLE = 3
EXIT_INTERRUPTED = 130


class SegstudioError(Exception):
    """Trouble that the message explains in a full sentence; the command line prints only that.

    >>> SegstudioError("The file 'x.json' does not exist.").exit_code
    3
    """

    exit_code: int = EXIT_TROUBLE


class UsageError(SegstudioError):
    """The call itself was wrong: an unknown name, an option that does not fit the source."""

    exit_code = EXIT_USAGE


class SourceError(SegstudioError):
    """An input file or a project could not be read; says which and where."""


class ServerError(SegstudioError):
    """Label Studio refused or could not be reached; names the URL and what to do.

    `status` is the HTTP status, or None when no answer came.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class MissingExtraError(SegstudioError):
    """A package of an optional extra is not installed.

    >>> print(MissingExtraError("Scaling out", "ray", "scale"))
    Scaling out needs the package 'ray', which is not installed. Run: pip install 'segstudio[scale]'
    """

    def __init__(self, purpose: str, package: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed. "
            f"Run: pip install 'segstudio[{extra}]'"
        )
        self.purpose, self.package, self.extra = purpose, package, extra

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str, str]]:
        return type(self), (self.purpose, self.package, self.extra)


class MediaError(SegstudioError):
    """The image of a task could not be fetched or decoded, or its address is not allowed."""
