"""The bytes of a task's image, fetched from where they may be fetched and nowhere else.

A task's data is written by whoever may import tasks, so its addresses are not trusted: files are
read below given folders only, the network is asked on Label Studio's own origin and on allowed
hosts only, private addresses of other hosts are refused after resolving them (and the connection
goes to the very address that was checked), and the token never leaves Label Studio's origin.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, unquote_to_bytes, urlsplit

import httpx

from segstudio.client import Client, describe_connection_error
from segstudio.errors import MediaError
from segstudio.http_client import ATTEMPTS_EXTENSION, TIMEOUT, join_url, origin
from segstudio.pixels import MAX_PIXELS, image_size_px, load_image

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_PIXELS",
    "allowed_hosts_from_environment",
    "image_bytes",
    "image_size_px",
    "load_image",
    "local_file",
]

MAX_IMAGE_BYTES: Final = 512 * 1024 * 1024
_MAX_REDIRECTS: Final = 5
# Label Studio answers 500 for an upload that is gone: more tries would only be slow.
_ATTEMPTS: Final = 2
_CLOUD_SCHEMES: Final = ("s3", "gs", "azure-blob", "s3s", "gcs", "azure-spi", "dbfs")
_SHOWN_CHARS: Final = 120


def image_bytes(
    reference: str,
    client: Client | None = None,
    roots: Sequence[Path] = (),
    *,
    task_id: int | None = None,
    allowed_hosts: Iterable[str] | None = None,
    max_bytes: int = MAX_IMAGE_BYTES,
) -> bytes:
    """Return the file that a task's data refers to.

    Args:
        reference: an upload (`/data/upload/...`), a local file of the server
            (`/data/local-files/?d=...`), an http(s) URL, a cloud URI (`s3://`, `gs://`,
            `azure-blob://`), a data URI, or a path below one of the roots.
        client: the server; without it uploads and the server's local files are looked for below
            the roots.
        roots: folders of this machine that may be read.
        task_id: needed for cloud URIs, which the server signs for a task.
        allowed_hosts: hosts beside Label Studio's; "host", "host:port", ".example.com" for a
            domain, or "*" for every public host. Default `SEGSTUDIO_ALLOWED_HOSTS`, comma
            separated. Only hosts given in full may have private addresses.
        max_bytes: larger files are refused.

    Raises:
        MediaError: not allowed, not there, or too large; the sentence says which.
    """
    if not reference or "\0" in reference:
        raise MediaError(f"Task {task_id or '?'} refers to no image ({reference!r}).")
    scheme = _scheme(reference)
    if scheme == "data":
        return _from_data_uri(reference, max_bytes)
    if scheme in _CLOUD_SCHEMES:
        url = _presign_url(reference, client, task_id)
    elif scheme in ("http", "https"):
        url = _parsed(reference)
    elif scheme:
        raise MediaError(
            f"{_shown(reference)} cannot be opened: '{scheme}:' addresses are not allowed. "
            "Use http(s), cloud storage connected to Label Studio, or a path below a given folder."
        )
    elif client is not None and reference.startswith("/data/"):
        url = _on_server(client, reference)
    else:
        return _from_roots(reference, roots, max_bytes)
    if client is None and roots and _server_path(url) is not None:
        return _from_roots(str(url.raw_path, "ascii"), roots, max_bytes)
    if allowed_hosts is None:
        allowed_hosts = allowed_hosts_from_environment()
    return _from_network(url, _shown(reference), client, tuple(allowed_hosts), max_bytes)


def local_file(
    reference: str,
    client: Client | None = None,
    roots: Sequence[Path] = (),
    *,
    max_bytes: int = MAX_IMAGE_BYTES,
) -> Path | None:
    """Return the file of this machine that `image_bytes` would read; None where it reads none.

    None for a reference that leads to a server or holds its data itself.

    Raises:
        MediaError: it is a path, and no file below the roots; the sentence says which.
    """
    if not reference or "\0" in reference:
        return None
    scheme = _scheme(reference)
    if scheme in ("http", "https"):
        url = _parsed(reference)
        if client is not None or not roots or _server_path(url) is None:
            return None
        return _find_below(str(url.raw_path, "ascii"), roots, max_bytes)
    if scheme or (client is not None and reference.startswith("/data/")):
        return None
    return _find_below(reference, roots, max_bytes)


def allowed_hosts_from_environment() -> tuple[str, ...]:
    """Return the hosts of `SEGSTUDIO_ALLOWED_HOSTS`, comma separated."""
    listed = os.environ.get("SEGSTUDIO_ALLOWED_HOSTS", "")
    return tuple(host.strip().lower() for host in listed.split(",") if host.strip())


def _scheme(reference: str) -> str:
    head, colon, _ = reference.partition(":")
    # A single letter is a drive of Windows, and "a/b:c.jpg" is a file name.
    usable = colon and len(head) > 1 and head[0].isalpha() and "/" not in head
    return head.lower() if usable and all(c.isalnum() or c in "+.-" for c in head) else ""


def _parsed(reference: str) -> httpx.URL:
    try:
        return httpx.URL(reference)
    except httpx.InvalidURL as error:
        raise MediaError(f"{_shown(reference)} is no valid address: {error}.") from error


def _from_data_uri(reference: str, max_bytes: int) -> bytes:
    head, comma, body = reference.partition(",")
    if not comma:
        raise MediaError(f"The data URI {_shown(reference)} holds no data.")
    if len(body) * 3 // 4 > max_bytes and len(body) > max_bytes:
        raise MediaError(f"The data URI {_shown(reference)} is larger than {max_bytes:,} bytes.")
    try:
        if head.lower().endswith(";base64"):
            content = base64.b64decode(unquote(body), validate=True)
        else:
            content = unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"The data URI {_shown(reference)} is not base64: {error}.") from error
    if len(content) > max_bytes:
        raise MediaError(f"The data URI {_shown(reference)} is larger than {max_bytes:,} bytes.")
    return content


def _presign_url(reference: str, client: Client | None, task_id: int | None) -> httpx.URL:
    if client is None or task_id is None:
        raise MediaError(
            f"{_shown(reference)} lies in cloud storage, which only Label Studio can open. Read "
            "from the server (project:ID), or give LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
        )
    encoded = base64.urlsafe_b64encode(reference.encode()).decode()
    url = join_url(client.base_url, f"/tasks/{task_id}/presign/")
    return url.copy_with(params={"fileuri": encoded})


def _on_server(client: Client, reference: str) -> httpx.URL:
    # Where the server lives under a prefix, its own references carry the prefix already.
    prefix = client.base_url.path.rstrip("/")
    if prefix and reference.startswith(prefix + "/"):
        return client.base_url.join(reference)
    return join_url(client.base_url, reference)


def _server_path(url: httpx.URL) -> str | None:
    """Return the path below `/data/` of an upload or local file; None for other addresses."""
    for marker in ("/data/local-files/", "/data/upload/"):
        before, found, after = url.path.partition(marker)
        if found and before.count("/") <= 1:
            if marker == "/data/upload/":
                return after
            return next(iter(parse_qs(url.query.decode()).get("d", [])), None)
    return None


def _from_roots(reference: str, roots: Sequence[Path], max_bytes: int) -> bytes:
    try:
        return _find_below(reference, roots, max_bytes).read_bytes()
    except OSError as error:
        raise MediaError(f"{_shown(reference)} cannot be read: {error}.") from error


def _find_below(reference: str, roots: Sequence[Path], max_bytes: int) -> Path:
    if not roots:
        raise MediaError(
            f"{_shown(reference)} is a path of Label Studio's machine or of this one, and no "
            "folder to look in was given. Read from the server (project:ID) or name the folder."
        )
    for root in roots:
        base = root.resolve()
        for relative in _relative_paths(reference):
            try:
                candidate = (base / relative).resolve()
                # Resolved first: neither ".." nor a symbolic link leads out of the folder.
                if not candidate.is_relative_to(base) or not candidate.is_file():
                    continue
                if candidate.stat().st_size > max_bytes:
                    raise MediaError(f"{candidate.name} is larger than {max_bytes:,} bytes.")
                return candidate  # noqa: TRY300 - the loop goes on otherwise
            except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
                raise MediaError(f"{_shown(reference)} cannot be read: {error}.") from error
    folders = ", ".join(str(root) for root in roots)
    raise MediaError(f"{_shown(reference)} is not below {folders}.")


def _relative_paths(reference: str) -> list[str]:
    """Return where below a root a reference may be, likeliest first."""
    paths = [reference]
    parts = urlsplit(reference)
    if parts.path == "/data/local-files/" or parts.path.endswith("/data/local-files/"):
        paths = list(parse_qs(parts.query).get("d", []))
    elif "/data/upload/" in parts.path:
        upload = unquote(parts.path.partition("/data/upload/")[2])
        # As exported with its images: upload/1/x.jpg, 1/x.jpg or images/x.jpg.
        paths = [f"upload/{upload}", upload, f"images/{Path(upload).name}", Path(upload).name]
    elif "%" in reference:
        paths.append(unquote(reference))
    # An absolute path counts where it leads below a root, else as one from the root on.
    return [form for path in paths if path for form in (path, path.lstrip("/")) if form]


def _from_network(
    url: httpx.URL,
    shown: str,
    client: Client | None,
    allowed_hosts: tuple[str, ...],
    max_bytes: int,
) -> bytes:
    for _ in range(_MAX_REDIRECTS + 1):
        own = client is not None and origin(url) == origin(client.base_url)
        try:
            if own:
                assert client is not None  # noqa: S101 - for mypy; `own` says so
                content, target = _download(client.http, url, shown, max_bytes)
            else:
                address = _checked_address(url, allowed_hosts)
                # The address that was checked is the one connected to: a name that resolves
                # differently a moment later changes nothing. No proxy may resolve it again.
                with httpx.Client(timeout=TIMEOUT, trust_env=False) as plain:
                    pinned = url.copy_with(host=address)
                    content, target = _download(plain, pinned, shown, max_bytes, host_of=url)
        except httpx.HTTPError as error:
            where = f"{url.scheme}://{url.netloc.decode('ascii')}"
            sentence = describe_connection_error(where, shown, error)
            raise MediaError(str(sentence)) from error
        except httpx.InvalidURL as error:
            raise MediaError(f"{shown} is no valid address: {error}.") from error
        if target is None:
            return content
        url = url.join(target)
        if url.scheme not in ("http", "https"):
            raise MediaError(f"{shown} redirects to a '{url.scheme}:' address: not allowed.")
    raise MediaError(f"{shown} redirects more than {_MAX_REDIRECTS} times.")


def _download(
    http: httpx.Client,
    url: httpx.URL,
    shown: str,
    max_bytes: int,
    host_of: httpx.URL | None = None,
) -> tuple[bytes, str | None]:
    """Return the body, or where a redirect leads; `host_of` names the host of a pinned address."""
    headers: dict[str, str] = {}
    extensions: dict[str, object] = {ATTEMPTS_EXTENSION: _ATTEMPTS}
    if host_of is not None:
        headers["Host"] = host_of.netloc.decode("ascii")
        if host_of.scheme == "https":
            extensions["sni_hostname"] = host_of.host
    too_large = f"{shown} is larger than {max_bytes:,} bytes."
    with http.stream(
        "GET", url, headers=headers, extensions=extensions, follow_redirects=False
    ) as response:
        if response.is_redirect:
            return b"", response.headers["Location"]
        if not response.is_success:
            raise MediaError(
                f"{shown} cannot be had: {url.host} answered {response.status_code}. The image is "
                "not there, or this user may not see it."
            )
        declared = response.headers.get("Content-Length", "")
        if declared.isdigit() and int(declared) > max_bytes:
            raise MediaError(too_large)
        content = bytearray()
        for chunk in response.iter_bytes(1 << 16):
            content += chunk
            if len(content) > max_bytes:
                raise MediaError(too_large)
    return bytes(content), None


def _checked_address(url: httpx.URL, allowed_hosts: tuple[str, ...]) -> str:
    """Return an IP address of the URL's host that may be asked."""
    host, netloc = url.host.lower(), url.netloc.decode("ascii").lower()
    named = host in allowed_hosts or netloc in allowed_hosts
    by_domain = any(
        allowed == "*" or (allowed.startswith(".") and host.endswith(allowed))
        for allowed in allowed_hosts
    )
    if url.userinfo:
        raise MediaError(f"{_shown(url.host)} is addressed with a user name, which is not allowed.")
    if not named and not by_domain:
        raise MediaError(
            f"The image lies on {url.host}, which is neither Label Studio nor an allowed host. If "
            f"it may be asked, set SEGSTUDIO_ALLOWED_HOSTS={url.host}."
        )
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)  # IPv6 may have no route
    except (OSError, UnicodeError) as error:
        raise MediaError(f"The host {host} of an image is not known: {error}.") from error
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not named and not all(_is_public(address) for address in addresses):
        raise MediaError(
            f"The host {host} of an image has a private address. If it may be asked, name it in "
            f"full: SEGSTUDIO_ALLOWED_HOSTS={host}."
        )
    return addresses[0]


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    return (mapped or ip).is_global and not (mapped or ip).is_multicast


def _shown(reference: str) -> str:
    # Without the query: signed URLs carry their key there.
    head = reference if reference.startswith("/data/") else reference.partition("?")[0]
    return head if len(head) <= _SHOWN_CHARS else head[:_SHOWN_CHARS] + "..."
