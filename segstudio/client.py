"""The connection to a Label Studio server: the SDK, raw HTTP, and errors as sentences."""

from __future__ import annotations

import os
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx

from segstudio.errors import ServerError, UsageError
from segstudio.http_client import (
    TokenAuth,
    TokenKind,
    join_url,
    new_http_client,
    origin,
    parse_base_url,
    token_kind,
)

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

_MAX_DETAIL_CHARS = 300


class Client:
    """A server, as one user sees it. Use it as a context manager, or call `close`.

    Attributes:
        url: the server's URL without a trailing slash.
        http: an httpx client that signs requests to the server's own origin and tries again;
            it follows no redirects.
        token_kind: "personal-access", "access" or "legacy".
    """

    def __init__(
        self, url: str, api_key: str, *, ca_bundle: str | None = None, insecure: bool = False
    ) -> None:
        self.base_url = parse_base_url(url)
        self.url = str(self.base_url).rstrip("/")
        self._api_key = _checked_token(api_key)
        self._ca_bundle, self._insecure = ca_bundle, insecure
        auth = TokenAuth(self.base_url, self._api_key)
        self.token_kind: TokenKind = auth.kind
        self.http = new_http_client(
            self.base_url, auth=auth, ca_bundle=ca_bundle, insecure=insecure
        )

    def __repr__(self) -> str:
        return f"Client({self.url!r}, {self.token_kind} token)"

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process gets the same settings and opens its own connections.
        return _rebuild, (self.url, self._api_key, self._ca_bundle, self._insecure)

    @cached_property
    def sdk(self) -> LabelStudio:
        """The official SDK's client for the same server and user; imported on first use."""
        from label_studio_sdk import LabelStudio

        http = new_http_client(
            self.base_url,
            auth=None,
            ca_bundle=self._ca_bundle,
            insecure=self._insecure,
            follow_redirects=True,
        )
        return LabelStudio(  # type: ignore[no-untyped-call]
            base_url=self.url, api_key=self._api_key, httpx_client=http
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        what: str | None = None,
        params: dict[str, Any] | None = None,
        json: Any = None,
    ) -> httpx.Response:
        """Send one request and return its successful answer.

        Args:
            method: the HTTP method.
            path: below the server's URL, e.g. "/api/projects/1/".
            what: what is asked for, for the error's sentence, e.g. "project 1".
            params: the query.
            json: the body.

        Raises:
            ServerError: with a sentence, for anything but a 2xx answer.
        """
        url = join_url(self.base_url, path)
        what = what or f"{method} {path}"
        reads = method in ("GET", "HEAD")
        try:
            response = self.http.request(
                method, url, params=params, json=json, follow_redirects=reads
            )
        except httpx.HTTPError as error:
            raise describe_connection_error(self.url, what, error) from error
        if response.is_success and origin(response.url) == origin(self.base_url):
            return response
        raise _refusal(self, what, response)

    def get_json(self, path: str, *, what: str | None = None, **params: Any) -> Any:
        """Return the JSON answer to a GET; parameters that are None are left out."""
        given = {key: value for key, value in params.items() if value is not None}
        return self.json_of(self.request("GET", path, what=what, params=given))

    def json_of(self, response: httpx.Response) -> Any:
        """Return an answer's JSON, or say that this is no Label Studio."""
        try:
            return response.json()
        except ValueError as error:
            raise ServerError(
                f"{response.url.copy_with(query=None)} answered with "
                f"'{response.headers.get('Content-Type', 'no type')}' in place of JSON. "
                f"Is {self.url} the address of Label Studio?",
                response.status_code,
            ) from error

    def project(self, project_id: int) -> dict[str, Any]:
        """Return a project as the server describes it: title, label_config, counts."""
        answer = self.get_json(f"/api/projects/{project_id}/", what=f"project {project_id}")
        if not isinstance(answer, dict) or not isinstance(answer.get("label_config"), str):
            raise ServerError(f"Project {project_id} at {self.url} came without a label_config.")
        return answer

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def _rebuild(url: str, api_key: str, ca_bundle: str | None, insecure: bool) -> Client:
    return Client(url, api_key, ca_bundle=ca_bundle, insecure=insecure)


def connect(
    url: str | None = None,
    api_key: str | None = None,
    *,
    ca_bundle: str | None = None,
    insecure: bool = False,
) -> Client:
    """Return a client of the server; nothing is sent yet.

    Args:
        url: default `LABEL_STUDIO_URL`.
        api_key: a personal access token or a legacy token; default `LABEL_STUDIO_API_KEY`.
        ca_bundle: a file of certificates to trust; default `LABEL_STUDIO_CA_BUNDLE`.
        insecure: do not check https certificates.

    Raises:
        UsageError: no URL or token is given, or it cannot be one.
    """
    url = url or os.environ.get("LABEL_STUDIO_URL")
    api_key = api_key or os.environ.get("LABEL_STUDIO_API_KEY")
    ca_bundle = ca_bundle or os.environ.get("LABEL_STUDIO_CA_BUNDLE") or None
    if not url:
        raise UsageError(
            "The address of Label Studio is missing. Set LABEL_STUDIO_URL "
            "(e.g. http://localhost:8080) or give --url."
        )
    if not api_key:
        raise UsageError(
            f"A token for {url} is missing. Make one in Label Studio under Account & Settings > "
            "Personal Access Token and set LABEL_STUDIO_API_KEY."
        )
    return Client(url, api_key, ca_bundle=ca_bundle, insecure=insecure)


def describe_connection_error(url: str, what: str, error: httpx.HTTPError) -> ServerError:
    """Return the sentence for a request that got no answer."""
    reason = " ".join(str(error).split())
    if isinstance(error, httpx.ConnectError) and "CERTIFICATE" in reason.upper():
        return ServerError(
            f"The certificate of {url} is not trusted ({reason}). Give the certificates to trust "
            "with --ca-bundle or LABEL_STUDIO_CA_BUNDLE."
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return ServerError(
            f"Nothing answers at {url} ({reason or 'time-out'}). Start Label Studio there, or "
            "correct LABEL_STUDIO_URL or --url."
        )
    if isinstance(error, httpx.TimeoutException):
        return ServerError(
            f"Label Studio at {url} did not answer in time ({what}). It may be overloaded; try "
            "again, with fewer processes at a time."
        )
    return ServerError(
        f"The connection to {url} broke ({what}): {type(error).__name__}: "
        f"{reason or 'no details'}. Try again."
    )


def _refusal(client: Client, what: str, response: httpx.Response) -> ServerError:
    status = response.status_code
    if response.is_redirect or origin(response.url) != origin(client.base_url):
        target = httpx.URL(response.headers.get("Location", str(response.url)))
        return ServerError(
            f"{client.url} sends requests on to another address, {target.copy_with(query=None)}. "
            "If that is your Label Studio, set LABEL_STUDIO_URL to it; the token is not sent along "
            "redirects.",
            status,
        )
    detail = _detail(response)
    if status == 401:
        advice = (
            "Legacy tokens are switched off in new organizations: use a personal access token, or "
            "let an administrator enable legacy tokens under Organization > API Tokens Settings"
            if client.token_kind == "legacy"  # noqa: S105 - a kind, not a token
            else "Make a new personal access token under Account & Settings"
        )
        message = f"Label Studio at {client.url} refused the token (401: {detail}). {advice}."
    elif status == 403:
        message = (
            f"Label Studio at {client.url} does not allow this user {what} (403: {detail}). "
            "Use the token of a user who may, or add the user to the organization."
        )
    elif status == 404:
        message = (
            f"There is no {what} at {client.url} that this user can see (404: {detail}). Check the "
            "id, and that the token's user belongs to the same organization."
        )
    elif status == 429:
        message = (
            f"Label Studio at {client.url} is limiting requests (429) and still did after "
            f"several tries ({what}). Try again later or with fewer processes."
        )
    elif status >= 500:
        message = (
            f"Label Studio at {client.url} failed on {what} ({status}: {detail}), several times. "
            "Its log says why."
        )
    else:
        message = f"Label Studio at {client.url} refused {what} ({status}: {detail})."
    return ServerError(message, status)


def _detail(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.reason_phrase or "no details"
    if isinstance(body, dict):
        parts = [body.get("detail"), body.get("validation_errors")]
        body = "; ".join(str(part) for part in parts if part) or body
    text = " ".join(str(body).split())
    return text if len(text) <= _MAX_DETAIL_CHARS else text[:_MAX_DETAIL_CHARS] + "..."


def _checked_token(api_key: str) -> str:
    token = api_key.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            "The token of Label Studio holds characters that no token has (spaces, line ends or "
            "letters beyond ASCII). Copy it again into LABEL_STUDIO_API_KEY."
        )
    return token


__all__ = ["Client", "connect", "describe_connection_error", "token_kind"]
