"""`segstudio qa watch`: agreement that stays current while people annotate."""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from segstudio.cli_options import SourceOptions, source_options
from segstudio.errors import SegstudioError, UsageError

if TYPE_CHECKING:
    from qa_plugins.watch import Watch

SECRET_VARIABLE = "SEGSTUDIO_WATCH_SECRET"  # noqa: S105 - the name of a variable
_MIN_SECRET_CHARS = 16


@click.command("watch")
@source_options
@click.option("--gates", metavar="FILE|PRESET", help="Whose rework rule decides on qa_verdict.")
@click.option(
    "--rater", metavar="prediction[:VERSION]",
    help="Compare a model's predictions with the annotators, as one rater more.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Catch up on what was changed, then end.")
@click.option(
    "--register", is_flag=True,
    help="Make the webhook in Label Studio now and remove it at the end.",
)  # fmt: skip
@click.option(
    "--unregister", is_flag=True,
    help="Only remove the webhooks that an earlier watch of this project left.",
)  # fmt: skip
@click.option(
    "--listen", metavar="HOST:PORT", default="127.0.0.1:9095", show_default=True,
    help="Where webhooks are answered; port 0 takes a free one.",
)  # fmt: skip
@click.option(
    "--public-url", metavar="URL",
    help="Where Label Studio reaches that address, if it is another, e.g. from a container.",
)  # fmt: skip
@click.option(
    "--poll-s", type=click.FloatRange(min=1), default=60.0, show_default=True,
    help="Seconds between two looks for changes that no webhook told of.",
)  # fmt: skip
@click.option(
    "--settle-s", type=click.FloatRange(min=0), default=1.0, show_default=True,
    help="Seconds to wait after a webhook, for the annotator's next save.",
)  # fmt: skip
@click.option(
    "--history", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.sqlite",
    help="Keep a snapshot there of every annotation that is read.",
)  # fmt: skip
def watch(
    source: SourceOptions,
    gates: str | None,
    rater: str | None,
    once: bool,
    register: bool,
    unregister: bool,
    listen: str,
    public_url: str | None,
    poll_s: float,
    settle_s: float,
    history: Path | None,
) -> None:
    """Keep the agreement on the tasks of SOURCE (project:ID, or several) current.

    Measures a task again when one of its annotations changes and writes the result back, as
    `segstudio qa agreement --write-back` with the same --gates and --rater does. Changes come by
    webhook with --register, or with one made by hand that sends the header X-Segstudio-Watch with
    the value of SEGSTUDIO_WATCH_SECRET; without either they are polled for. Ctrl-C ends it, after
    what has been begun.
    """
    from qa_plugins.command import choose_taxonomy
    from qa_plugins.gates import load_gates
    from qa_plugins.raters import model_policy
    from qa_plugins.watch import Watch
    from qa_plugins.watch_endpoint import ACTIONS, SECRET_HEADER, WebhookEndpoint
    from segstudio.writeback import ensure_webhook, remove_webhooks

    if once and (register or public_url):
        raise UsageError("--once looks once and ends: it needs no webhook. Leave out --register.")
    if unregister and (register or once):
        raise UsageError("--unregister only removes webhooks: give it alone.")
    host, port = parse_listen(listen)
    secret = os.environ.get(SECRET_VARIABLE, "")
    if secret and (len(secret) < _MIN_SECRET_CHARS or not secret.isascii()):
        raise UsageError(
            f"{SECRET_VARIABLE} is too weak: give {_MIN_SECRET_CHARS} or more ASCII characters."
        )
    opened = source.open()
    if not opened.project_ids:
        raise UsageError("`segstudio qa watch` needs a project on a server: give project:ID.")
    if opened.filters.selects_annotations:
        raise UsageError(
            "What `qa watch` writes is of whole tasks: leave out --annotator, --since and --until."
        )
    gate_set = load_gates(gates)
    model_policy({} if rater is None else {"rater": rater})  # a wrong one is said before it starts

    with source.connect() as client, ExitStack() as cleanup:
        if unregister:
            for one in opened.project_ids:
                count = remove_webhooks(client, one, SECRET_HEADER)
                click.echo(f"{count} webhooks removed from project {one}.")
            return
        for one in opened.project_ids:
            client.project(one)  # a wrong number or token is said before anything starts
        watches = [
            Watch(
                client,
                one,
                lambda read: choose_taxonomy(read, source.taxonomy),
                gate_set,
                lambda sentence: click.echo(sentence, err=True),
                label_config=source.label_config,
                rater=rater,
                poll_s=poll_s,
                settle_s=settle_s,
                filters=opened.filters,
                history=history,
            )
            for one in opened.project_ids
        ]
        if once:
            looked_at = sum(one.catch_up() for one in watches)
            click.echo(f"{looked_at} tasks looked at; their agreement is current.")
            return
        if len(watches) > 1:
            if register or secret:
                raise UsageError(
                    "Several projects are watched by polling: leave out --register (and "
                    f"{SECRET_VARIABLE}), or start one watch a project."
                )
            numbers = ", ".join(map(str, opened.project_ids))
            click.echo(f"Watching projects {numbers} every {poll_s:g} s.", err=True)
            run_all(watches, cleanup.enter_context(stop_on_signals()))
            click.echo("The watch has ended.", err=True)
            return
        (watching,) = watches
        project_id = watching.project_id
        stop = cleanup.enter_context(stop_on_signals())
        where = f"every {poll_s:g} s, by polling alone"
        if register or secret:
            endpoint = WebhookEndpoint(
                watching.queue, project_id, secret or secrets.token_urlsafe(32), host, port
            )
            try:
                cleanup.enter_context(endpoint)
            except OSError as error:
                raise SegstudioError(
                    f"Nothing can listen on {listen}: {error}. Choose another with --listen."
                ) from error
            address = public_url or _address(host, endpoint.port)
            where = f"by webhooks at {address}, and every {poll_s:g} s"
            if register:
                headers = {SECRET_HEADER: endpoint.secret}
                ensure_webhook(client, project_id, address, headers, ACTIONS)
                cleanup.callback(remove_webhooks, client, project_id, SECRET_HEADER, address)
        click.echo(f"Watching project {project_id} {where}. Ctrl-C ends it.", err=True)
        watching.run(stop)
    click.echo("The watch has ended.", err=True)


def run_all(watches: Sequence[Watch], stop: threading.Event) -> None:
    """Run several projects' watches, a thread each; trouble that ends one ends all."""
    with ThreadPoolExecutor(len(watches)) as pool:
        running = [pool.submit(one.run, stop) for one in watches]
        try:
            for done in as_completed(running):
                done.result()
        finally:
            stop.set()


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT", with the brackets of IPv6 taken off.

    >>> parse_listen("127.0.0.1:0"), parse_listen("[::1]:9095")
    (('127.0.0.1', 0), ('::1', 9095))
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(f"--listen takes HOST:PORT, such as 127.0.0.1:9095, not {text!r}.")
    return host, int(port)


def _address(host: str, port: int) -> str:
    """The URL of the endpoint; of one on all addresses, the one of this machine itself."""
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}/"
    if parsed.is_unspecified:
        return f"http://127.0.0.1:{port}/"
    return f"http://[{host}]:{port}/" if parsed.version == 6 else f"http://{host}:{port}/"


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and a termination set; a second Ctrl-C interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {one: signal.signal(one, handle) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
