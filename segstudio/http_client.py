"""One HTTP client for Label Studio: authentication, bounded retries, nothing leaked."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

import httpx

from segstudio.errors import ServerError, UsageError

logger = logging.getLogger(__name__)

TokenKind = Literal["personal-access", "access", "legacy"]

MAX_ATTEMPTS = 5
ATTEMPTS_EXTENSION = "segstudio_attempts"
"""Key of a request's `extensions` that asks for another number of attempts."""
RECONNECT_ATTEMPTS = 8
"""How often a server that has answered before is tried while it refuses connections: it restarts,
which takes it seconds to a minute."""
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 60.0
TIMEOUT = httpx.Timeout(120.0, connect=5.0)

_RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
# A POST that was answered with 500 or timed out may have been carried out: do not repeat it.
_RETRIED_STATUSES_OF_POST = frozenset({429, 503})
_REPEATABLE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})
_REFRESH_BEFORE_EXPIRY_S = 30.0


class TokenRefreshError(httpx.TransportError):
    """The server answered a request for an access token with 429 or 5xx: worth another try."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"the server answered {response.status_code} when asked for a token")
        self.retry_after_s = _retry_after_s(response)


class RetryingClient(httpx.Client):
    """An httpx client that tries again after 429, 5xx, time-outs and lost connections.

    It waits as long as `Retry-After` says (at most 60 s), else with doubling, jittered delays,
    and gives up after 5 attempts with the last answer or error. A server that refuses connections
    gets one quick second try, for its address may be wrong; one that has answered before gets
    about a minute, for it restarts. A request that may already have been carried out and is not
    repeatable (POST) is sent once.
    """

    sleep: Callable[[float], None] = staticmethod(time.sleep)
    has_answered = False

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request, trying again where that is safe and may help."""
        attempts = int(request.extensions.get(ATTEMPTS_EXTENSION, MAX_ATTEMPTS))
        replayable = isinstance(request.stream, httpx.ByteStream)
        repeatable = request.method in _REPEATABLE_METHODS
        tried = refused = 0
        while True:
            last = tried + 1 >= attempts or not replayable
            try:
                response = super().send(request, **options)
            except httpx.ConnectError:
                refused += 1
                most = RECONNECT_ATTEMPTS if self.has_answered else 2
                if attempts == 1 or refused >= most or not replayable:
                    raise
                reason, delay_s = f"no connection ({refused} of {most})", _back_off_s(refused)
            except (httpx.ConnectTimeout, httpx.PoolTimeout):
                tried += 1
                if last:
                    raise
                reason, delay_s = "time-out", _back_off_s(tried)
            except TokenRefreshError as error:
                # The request itself has not been carried out, whatever its method.
                tried += 1
                if last:
                    raise
                reason, delay_s = "no access token", error.retry_after_s or _back_off_s(tried)
            except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError):
                tried += 1
                if last or not repeatable:
                    raise
                reason, delay_s = "connection lost", _back_off_s(tried)
            else:
                tried += 1
                self.has_answered = True
                retried = _RETRIED_STATUSES if repeatable else _RETRIED_STATUSES_OF_POST
                if response.status_code not in retried or last:
                    return response
                reason = f"status {response.status_code}"
                asked_s = _retry_after_s(response)
                delay_s = asked_s if asked_s is not None else _back_off_s(tried)
                response.close()
            logger.info(
                "%s %s: %s; again in %.1f s (attempt %d of %d)",
                request.method,
                request.url.path,
                reason,
                delay_s,
                tried + 1,
                attempts,
            )
            self.sleep(delay_s)


class TokenAuth(httpx.Auth):
    """Adds Label Studio's token to requests of its own origin and to no others.

    A personal access token is exchanged for an access token, which lives 300 s and is renewed
    before it ends or when the server refuses it. A legacy token is sent as it is.
    """

    requires_response_body = True

    def __init__(self, base_url: httpx.URL, token: str) -> None:
        self._base_url = base_url
        self._token = token
        self.kind: TokenKind = token_kind(token)
        self._access: str | None = token if self.kind == "access" else None
        self._access_ends_s = _jwt_expiry_s(token) if self.kind == "access" else 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"TokenAuth({self.kind})"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign one request; renew the access token first where it needs that."""
        if origin(request.url) != origin(self._base_url):
            yield request
            return
        if self.kind == "legacy":
            request.headers["Authorization"] = f"Token {self._token}"
            yield request
            return
        if self.kind == "personal-access" and self._needs_refresh():
            yield from self._refresh()
        request.headers["Authorization"] = f"Bearer {self._access}"
        response = yield request
        if response.status_code == 401 and self.kind == "personal-access":
            yield from self._refresh()
            request.headers["Authorization"] = f"Bearer {self._access}"
            yield request

    def _needs_refresh(self) -> bool:
        with self._lock:
            return (
                self._access is None or time.time() > self._access_ends_s - _REFRESH_BEFORE_EXPIRY_S
            )

    def _refresh(self) -> Generator[httpx.Request, httpx.Response, None]:
        url = join_url(self._base_url, "/api/token/refresh/")
        response = yield httpx.Request("POST", url, json={"refresh": self._token})
        if response.status_code in (400, 401, 403):
            raise ServerError(
                f"Label Studio at {self._base_url} refused the personal access token "
                f"({response.status_code}). It may have been revoked, have expired, or belong to "
                "another server. Make a new one under Account & Settings > Personal Access Token "
                "and set LABEL_STUDIO_API_KEY.",
                response.status_code,
            )
        if response.status_code in _RETRIED_STATUSES:
            raise TokenRefreshError(response)
        try:
            access = response.json()["access"] if response.status_code == 200 else None
        except (ValueError, KeyError, TypeError):
            access = None
        if not isinstance(access, str):
            raise ServerError(
                f"{url} answered {response.status_code} without an access token. Is "
                f"{self._base_url} the address of a Label Studio server (1.17 or newer)?",
                response.status_code,
            )
        with self._lock:
            self._access = access
            self._access_ends_s = _jwt_expiry_s(access)


def new_http_client(
    base_url: httpx.URL,
    *,
    auth: TokenAuth | None,
    ca_bundle: str | None,
    insecure: bool,
    follow_redirects: bool = False,
) -> RetryingClient:
    """Return a client for one server; redirects are not followed unless asked."""
    return RetryingClient(
        base_url=base_url,
        auth=auth,
        verify=_tls(ca_bundle, insecure),
        timeout=TIMEOUT,
        follow_redirects=follow_redirects,
        headers={"User-Agent": "segstudio"},
    )


def token_kind(token: str) -> TokenKind:
    """Tell a personal access token (a JWT) from a legacy token by its shape.

    >>> token_kind("0123456789abcdef0123456789abcdef01234567")
    'legacy'
    """
    claims = _jwt_claims(token)
    if claims is None:
        return "legacy"
    return "access" if claims.get("token_type") == "access" else "personal-access"


def parse_base_url(url: str) -> httpx.URL:
    """Return the server's URL without a trailing slash.

    Raises:
        UsageError: it is no http(s) URL, or carries a user name or password.
    """
    try:
        parsed = httpx.URL(url.strip().rstrip("/"))
    except httpx.InvalidURL as error:
        raise UsageError(f"The URL of Label Studio, {url!r}, is not valid: {error}.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(
            f"The URL of Label Studio must look like http://localhost:8080, not {url!r}. "
            "Set LABEL_STUDIO_URL or give --url."
        )
    if parsed.userinfo:
        raise UsageError(
            "The URL of Label Studio must not hold a user name or password; use a token instead "
            "(LABEL_STUDIO_API_KEY)."
        )
    return parsed.copy_with(query=None, fragment=None)


def join_url(base_url: httpx.URL, path: str) -> httpx.URL:
    """Return the URL of a path below the server's own (the server may live under a prefix)."""
    return httpx.URL(f"{str(base_url).rstrip('/')}/{path.lstrip('/')}")


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """Return scheme, host and port: what must be equal for a token to be sent."""
    default_port = 443 if url.scheme == "https" else 80
    return url.scheme, url.host.lower(), url.port or default_port


def _tls(ca_bundle: str | None, insecure: bool) -> ssl.SSLContext | bool:
    if insecure:
        logger.warning("https certificates are not checked (--insecure).")
        return False
    if ca_bundle is None:
        return True
    if not Path(ca_bundle).is_file():
        raise UsageError(
            f"The file of certificates {ca_bundle!r} does not exist. "
            "Correct --ca-bundle or LABEL_STUDIO_CA_BUNDLE."
        )
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except ssl.SSLError as error:
        raise UsageError(
            f"The file {ca_bundle!r} holds no readable PEM certificates: {error}."
        ) from error


def _back_off_s(attempt: int) -> float:
    delay_s = FIRST_DELAY_S * 2.0 ** (attempt - 1)
    return min(MAX_DELAY_S, delay_s * random.uniform(0.75, 1.25))  # noqa: S311 - only jitter


def _retry_after_s(response: httpx.Response) -> float | None:
    """Return what Retry-After asks for, in seconds; both forms of RFC 9110 section 10.2.3."""
    value = response.headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isdigit():
        return min(MAX_DELAY_S, float(value))
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(MAX_DELAY_S, max(0.0, (when - datetime.now(UTC)).total_seconds()))


def _jwt_claims(token: str) -> dict[str, Any] | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _jwt_expiry_s(token: str) -> float:
    claims = _jwt_claims(token) or {}
    ends_s = claims.get("exp")
    return float(ends_s) if isinstance(ends_s, int | float) else time.time() + 300.0
