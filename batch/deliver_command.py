"""`segstudio deliver`: a batch that passed its gates as one folder or zip file with a manifest."""

from __future__ import annotations

import json
from pathlib import Path

import click

from segstudio.cli_commands import CommandWithOthers
from segstudio.cli_options import (
    SourceOptions,
    compute_options,
    parse_key_values,
    source_options,
)
from segstudio.errors import SegstudioError, UsageError

_SHOWN = 20
_EXISTING = click.Path(exists=True, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=CommandWithOthers)
@source_options
@click.option(
    "--format", "formats", required=True, metavar="FORMAT[,FORMAT]",
    help="The formats of the data, as `segstudio export` names them.",
)  # fmt: skip
@click.option(
    "--out", "place", required=True, metavar="DIR|X.zip",
    type=click.Path(path_type=Path), help="A new folder or zip file.",
)  # fmt: skip
@click.option("--gates", metavar="FILE|PRESET", help="What the batch must reach; YAML or a preset.")
@click.option(
    "--override", metavar="REASON",
    help="Deliver although a gate did not pass or there are errors; the manifest says why.",
)  # fmt: skip
@click.option(
    "--guideline", type=_FILE, help="The guideline that was annotated by; goes into the delivery."
)
@click.option(
    "--sign", "key_path", type=_FILE, metavar="KEY.pem",
    help="Sign the manifest with this Ed25519 key (`segstudio deliver keygen`).",
)  # fmt: skip
@click.option(
    "--annotations", metavar="POLICY",
    help="Whose annotation of a task: ground-truth, consensus, newest, user:ID, all (a folder an "
    "annotator). Default: the one ground truth, else the only annotator's.",
)  # fmt: skip
@click.option(
    "--check", "checks", metavar="CHECK[,CHECK]", default="",
    help="Checks beside agreement and validation, e.g. gold.",
)  # fmt: skip
@click.option(
    "--check-option", "check_options", multiple=True, metavar="KEY=VALUE",
    help="An option of a check, e.g. gold=gold.json; may be repeated.",
)  # fmt: skip
@click.option(
    "--overlap", type=click.Choice(["draw-order", "class-priority", "smaller-on-top", "error"]),
    default="draw-order", show_default=True, help="Which region is on top where two overlap.",
)  # fmt: skip
@click.option(
    "--images", type=click.Choice(["copy", "reference", "none"]), default="reference",
    show_default=True, help="Copy the images into the data, name where they are, or neither.",
)  # fmt: skip
@click.option(
    "--images-root", "roots", multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of this machine with the images, for a file source.",
)  # fmt: skip
@click.option(
    "--option", "options", multiple=True, metavar="[FORMAT:]KEY=VALUE",
    help="An option of the formats, or of the one that is named; may be repeated.",
)  # fmt: skip
@click.option(
    "--pictures", type=click.IntRange(0, 50), default=6, show_default=True,
    help="How many of the worst tasks the report shows.",
)  # fmt: skip
@click.option(
    "--history", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.sqlite",
    help="Record there who had drawn what when this was delivered.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Replace an earlier delivery in the same place.")
@compute_options
def deliver(
    source: SourceOptions,
    formats: str,
    place: Path,
    gates: str | None,
    override: str | None,
    guideline: Path | None,
    key_path: Path | None,
    annotations: str | None,
    checks: str,
    check_options: tuple[str, ...],
    overlap: str,
    images: str,
    roots: tuple[Path, ...],
    options: tuple[str, ...],
    pictures: int,
    history: Path | None,
    replace: bool,
    workers: int | None,
    cluster: str | None,
) -> None:
    """Deliver a batch of SOURCE that passes its gates.

    Data, report, taxonomy, guideline and a manifest with the hash of every file and of every
    annotation behind it, in one folder or zip file. A gate that fails or cannot be judged, or an
    error in the annotations, delivers nothing and ends with 1, unless --override says why not.
    The same command on the same annotations gives the same bytes.

    `segstudio deliver keygen KEY.pem` makes a key to sign with, `segstudio deliver verify X` checks
    a delivery, `segstudio deliver diff A B` says what changed between two.
    """
    from batch.deliver import deliver as make_delivery
    from batch.delivery_settings import DeliverySettings
    from batch.delivery_text import delivered_text
    from batch.signature import load_private_key
    from qa_plugins.command import choose_taxonomy

    names = _names(formats)
    settings = DeliverySettings(
        formats=names,
        gates=gates,
        override=override,
        annotations=annotations,
        guideline=guideline,
        key=load_private_key(key_path) if key_path is not None else None,
        checks=_names(checks),
        check_options=parse_key_values(check_options),
        options=parse_format_options(options, names),
        overlap=overlap,
        images=images,
        roots=roots,
        pictures=pictures,
        history=history,
        replace=replace,
    )
    if "://" in str(place):
        raise UsageError(
            f"--out takes a folder or a zip file of this machine, not {place}: a delivery is put "
            "in place in one step. Copy it from there."
        )
    opened = source.open()
    taxonomy = choose_taxonomy(opened, source.taxonomy)
    done = make_delivery(opened, taxonomy, place, settings, workers=workers, cluster=cluster)
    click.echo(delivered_text(done, place))


@click.command()
@click.argument("place", metavar="DIR|X.zip", type=_EXISTING)
@click.option(
    "--key", "key_path", type=_FILE, metavar="X.pub.pem",
    help="The public key that must have signed it.",
)  # fmt: skip
def verify(place: Path, key_path: Path | None) -> None:
    """Check every file of a delivery against its manifest, and the signature.

    Ends with 3 when something is missing, added or changed.
    """
    from batch.delivery_files import DeliveryFiles
    from batch.delivery_files import verify as check
    from batch.signature import load_public_key

    trusted = load_public_key(key_path) if key_path is not None else None
    with DeliveryFiles(place) as files:
        found = check(files, trusted)
    if found.problems:
        shown = [f"  - {one}" for one in found.problems[:_SHOWN]]
        more = len(found.problems) - len(shown)
        shown += [f"  and {more} more."] if more else []
        raise SegstudioError("\n".join([f"{place} is not as it was delivered.", *shown]))
    click.echo(f"{found.files} files are as the manifest says.")
    if found.public_key is None:
        click.echo("It is not signed.")
    elif found.is_trusted:
        click.echo(f"Signed with the given key {found.public_key}.")
    else:
        click.echo(
            f"Signed with the key {found.public_key}. Whether that is the sender's key only "
            "--key X.pub.pem tells."
        )


@click.command()
@click.argument("before", metavar="A", type=_EXISTING)
@click.argument("after", metavar="B", type=_EXISTING)
@click.option("--json", "as_json_text", is_flag=True, help="Print JSON in place of sentences.")
def diff(before: Path, after: Path, as_json_text: bool) -> None:
    """Say what changed from delivery A to delivery B: tasks, classes, pixels, settings.

    The manifests are taken at their word; `segstudio deliver verify` checks them.
    """
    from batch.delivery_diff import compare
    from batch.delivery_files import DeliveryFiles
    from batch.delivery_text import diff_text

    with DeliveryFiles(before) as old, DeliveryFiles(after) as new:
        found = compare(old, new)
    if as_json_text:
        click.echo(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        click.echo(diff_text(found))


@click.command()
@click.argument("path", metavar="KEY.pem", type=click.Path(path_type=Path))
def keygen(path: Path) -> None:
    """Make an Ed25519 key to sign deliveries with.

    KEY.pem is readable by its owner alone and stays here; KEY.pub.pem goes to whoever receives
    deliveries, on another way than they do.
    """
    from batch.signature import make_key

    public = make_key(path)
    click.echo(f"The private key is {path}; keep it. Give {public} to those who verify.")


def parse_format_options(
    texts: tuple[str, ...], formats: tuple[str, ...]
) -> dict[str, dict[str, str]]:
    """Deal `KEY=VALUE` to all formats and `FORMAT:KEY=VALUE` to the one that is named.

    >>> parse_format_options(("split=val", "yolo-seg:group=a"), ("yolo-seg", "nnunet"))
    {'yolo-seg': {'split': 'val', 'group': 'a'}, 'nnunet': {'split': 'val'}}
    """
    dealt: dict[str, dict[str, str]] = {name: {} for name in formats}
    for text in texts:
        head, colon, rest = text.partition(":")
        named = bool(colon) and "=" not in head
        if named and head not in dealt:
            raise UsageError(
                f"--option '{text}' is for the format '{head}', which is not among those to be "
                f"delivered ({', '.join(formats)})."
            )
        for name in (head,) if named else formats:
            dealt[name].update(parse_key_values([rest if named else text]))
    return dealt


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


deliver.add_other("diff", lambda: diff)
deliver.add_other("verify", lambda: verify)
deliver.add_other("keygen", lambda: keygen)
