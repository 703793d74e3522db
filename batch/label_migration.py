"""Renaming and merging a project's labels on the server, in steps that can be cut short and undone.

The interface first gets the new labels beside the old ones, then results are rewritten, then the
old labels go: at no moment does a result use a label that the interface lacks. Results are looked
for again until none holds an old label, since annotators go on meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from batch.label_collisions import Collision, collisions
from batch.label_mapping import labels_of, map_config, map_result, unmap_result
from batch.label_undo import MigrationHead, append_pass, read_undo, start_undo
from segstudio.client import Client
from segstudio.errors import ServerError, UsageError
from segstudio.label_config import parse_label_config
from segstudio.writeback import (
    StoredResult,
    read_result,
    stored_results,
    write_label_config,
    write_result,
)

_PASSES: Final = 6


@dataclass(slots=True)
class MigrationPlan:
    """What a migration would touch.

    `regions` counts by (kind of result, old label); `results` by kind; `collisions` are those of
    annotations, `other_collisions` counts those of predictions and drafts.
    """

    head: MigrationHead
    regions: Counter[tuple[str, str]] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    tasks: set[int] = field(default_factory=set)
    collisions: list[Collision] = field(default_factory=list)
    other_collisions: int = 0

    def sentences(self) -> list[str]:
        """What would be touched, a line a label and kind."""
        lines = []
        for old, new in self.head.mapping.items():
            of_label = {kind: n for (kind, label), n in self.regions.items() if label == old}
            counts = ", ".join(f"{n} regions of {kind}s" for kind, n in sorted(of_label.items()))
            lines.append(f"{old} -> {new}: {counts or 'no region uses it'}")
        total = ", ".join(f"{n} {kind}s" for kind, n in sorted(self.results.items())) or "nothing"
        changed = self.head.config_before != self.head.config_after
        lines.append(
            f"To rewrite: {total} of {len(self.tasks)} tasks; the labelling interface "
            f"{'changes' if changed else 'stays'}."
        )
        if self.other_collisions:
            lines.append(
                f"{self.other_collisions} predictions and drafts have merged labels that overlap."
            )
        return lines


@dataclass(frozen=True, slots=True)
class MigrationSummary:
    """What was rewritten, and how many results still hold labels that could not be taken back."""

    written: int
    left: int = 0


def plan_migration(
    client: Client, project_id: int, mapping: Mapping[str, str], merged: Collection[str] | None
) -> MigrationPlan:
    """Read the whole project and say what a migration would touch.

    Args:
        client: the server.
        project_id: the project.
        mapping: old label -> new label.
        merged: new labels that several are merged into; any other must be new. None where a
            migration that was begun goes on: then the project holds new labels already.

    Raises:
        UsageError: an old label is neither in the interface nor in use, or a rename meets a label
            that is there already.
    """
    before = client.project(project_id)["label_config"]
    after = map_config(before, mapping)
    head = MigrationHead(
        client.url, project_id, dict(mapping), before,
        map_config(before, mapping, keep_old=True), after,
    )  # fmt: skip
    plan = MigrationPlan(head)
    used: Counter[str] = Counter()
    for stored in stored_results(client, project_id):
        labels = [label for region in stored.result for label in labels_of(region)]
        used.update(labels)
        touched = [label for label in labels if label in mapping]
        if not touched:
            continue
        plan.regions.update((stored.kind, label) for label in touched)
        plan.results[stored.kind] += 1
        plan.tasks.add(stored.task_id)
        found = collisions(stored, mapping)
        if stored.kind == "annotation":
            plan.collisions += found
        else:
            plan.other_collisions += bool(found)
    if merged is not None:
        _require_sense(before, mapping, used, merged)
    parse_label_config(head.config_between)
    parse_label_config(after)
    return plan


def apply_migration(client: Client, path: Path, head: MigrationHead) -> MigrationSummary:
    """Migrate, with everything as it was in the undo file first; goes on where one was killed.

    Raises:
        UsageError: the undo file belongs to another migration.
        ServerError: the server refuses, or people keep drawing with old labels.
    """
    if path.exists():
        require_same(path, head)
    else:
        start_undo(path, head)
    write_label_config(client, head.project_id, head.config_between)
    written = _rewrite(client, path, head)
    write_label_config(client, head.project_id, head.config_after)
    # Editors that were open before may have sent old labels until now.
    return MigrationSummary(written + _rewrite(client, path, head))


def undo_migration(client: Client, path: Path) -> MigrationSummary:
    """Give results and interface the labels that they had; can be repeated where it was killed.

    Drawings that people changed since keep their new shape and get their old label by region. A
    region drawn since with a merged label has no old one: it is counted, and the interface keeps
    old and new labels.
    """
    head, before = read_undo(path)
    if head.url != client.url:
        raise UsageError(f"The undo file {path} belongs to {head.url}, not to {client.url}.")
    write_label_config(client, head.project_id, head.config_between)
    offered = set(parse_label_config(head.config_before).label_names)
    targets = set(head.mapping.values())
    written = left = 0
    for stored in list(_with_labels(client, head.project_id, targets)):
        earlier = before.get((stored.kind, stored.id), [])
        now = read_result(client, stored.kind, stored.id)
        if now is None:
            continue
        restored = unmap_result(now, earlier, head.mapping)
        if restored != now:
            write_result(client, stored.kind, stored.id, restored)
            written += 1
        labels = {label for region in restored for label in labels_of(region)}
        left += bool(labels & (targets - offered))
    if not left:
        write_label_config(client, head.project_id, head.config_before)
    return MigrationSummary(written, left)


def require_same(path: Path, head: MigrationHead) -> MigrationHead:
    """Return the head of an undo file that belongs to this very migration.

    Raises:
        UsageError: it belongs to another one.
    """
    found, _ = read_undo(path)
    wanted = (head.url, head.project_id, dict(head.mapping))
    if (found.url, found.project_id, dict(found.mapping)) != wanted:
        raise UsageError(
            f"The undo file {path} belongs to another migration ({dict(found.mapping)} of project "
            f"{found.project_id} at {found.url}); name another file."
        )
    return found


def _rewrite(client: Client, path: Path, head: MigrationHead) -> int:
    """Rewrite until no result holds an old label; each pass is on disk before it is begun."""
    written = 0
    for _ in range(_PASSES):
        first = next(_with_labels(client, head.project_id, set(head.mapping)), None)
        if first is None:
            return written
        waiting = _with_labels(client, head.project_id, set(head.mapping))
        before = dict.fromkeys(append_pass(path, waiting))
        _, kept = read_undo(path)
        for kind, number in before:
            now = read_result(client, kind, number)
            # One that somebody saved since the pass was written is for the next pass.
            if now is not None and now == kept[kind, number][-1]:
                write_result(client, kind, number, map_result(now, head.mapping))
                written += 1
    raise ServerError(
        f"Annotators keep saving old labels in project {head.project_id}: {written} results were "
        "rewritten. The interface offers old and new labels; let everybody reload the page, then "
        "run the same call again."
    )


def _with_labels(client: Client, project_id: int, labels: set[str]) -> Iterator[StoredResult]:
    for stored in stored_results(client, project_id):
        if any(label in labels for region in stored.result for label in labels_of(region)):
            yield stored


def _require_sense(
    config: str, mapping: Mapping[str, str], used: Counter[str], merged: Collection[str]
) -> None:
    controls = parse_label_config(config).controls
    offered = {label for control in controls for label in control.label_names}
    for old, new in mapping.items():
        if old not in offered and old not in used:
            known = ", ".join(sorted(offered))
            raise UsageError(f"No label {old!r} is in the interface ({known}) or in use.")
        if new not in merged and (new in offered or new in used):
            raise UsageError(
                f"The label {new!r} is there already: renaming {old!r} to it would merge the two. "
                f"If that is meant, say --merge '{old},{new}={new}'."
            )
