"""What the commands on deliveries print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from batch.deliver import Delivered
    from batch.delivery_diff import DeliveryDiff

_SHOWN: Final = 20


def delivered_text(done: Delivered, shown: Path) -> str:
    """Return what was delivered, and what to do next."""
    head = done.head
    if done.unchanged:
        return f"{shown} holds this very delivery already: {done.files} files, byte for byte."
    taken = head["annotations_taken"]
    lines = [
        f"{shown}: {done.files} files, "
        + ", ".join(f"{one['images']} images as {name}" for name, one in head["formats"].items())
        + ".",
        f"  annotations: {taken['takes']}; {taken['tasks_taken']} of {taken['tasks_read']} tasks"
        + "".join(f", {count} {why}" for why, count in taken["tasks_left_out"].items()),
        f"  verdict: {head['verdict']}. {head['verdict_reason']}",
    ]
    if head["override"]:
        lines.append(f"  OVERRIDDEN, and the manifest says so: {head['override']['reason']}")
        lines += [f"    - {one}" for one in head["override"]["of"]]
    lines.append(
        f"  signed with {head['signature']['public_key']}" if head["signature"] else "  not signed"
    )
    lines.append(f"Check it: segstudio deliver verify {shown}")
    return "\n".join(lines)


def diff_text(found: DeliveryDiff) -> str:
    """Return the changes in sentences and one table."""
    if found.is_empty:
        return "The two deliveries are the same, file for file."
    redrawn = [one for one in found.changed if one.redrawn]
    saved = [one for one in found.changed if not one.redrawn]
    lines = [
        f"Tasks: {_listed('added', found.added)}, {_listed('removed', found.removed)}, "
        f"{_listed('drawn otherwise', [one.id for one in redrawn])}, "
        f"{_listed('otherwise changed', [one.id for one in saved])}, {found.unchanged} unchanged."
    ]
    changed = [one for one in found.classes if one.is_change]
    if changed:
        lines.append("Classes:")
    for one in changed:
        name = one.name_after or one.name_before
        if one.name_before is None:
            name = f"{name} (new)"
        elif one.name_after is None:
            name = f"{name} (gone)"
        elif one.name_before != one.name_after:
            name = f"{one.name_before} -> {one.name_after}"
        text = (
            f"  {one.id} {name}: {one.pixels_before} -> {one.pixels_after} px "
            f"({one.pixels_after - one.pixels_before:+d}), {one.segments_before} -> "
            f"{one.segments_after} segments"
        )
        if one.gained_px is not None:
            text += f"; {one.gained_px} px got it, {one.lost_px} px lost it"
        lines.append(text)
    if not found.compared_pixels:
        lines.append(
            "Pixels that moved within a class are not counted: that takes semantic-png in both."
        )
    for word, names in (("new", found.formats_added), ("gone", found.formats_removed)):
        if names:
            lines.append(f"Formats {word}: {', '.join(names)}.")
    if found.settings:
        lines.append(f"Also different: {', '.join(found.settings)}.")
    lines.append(f"{found.files_changed} files differ.")
    return "\n".join(lines)


def _listed(what: str, ids: Any) -> str:
    if not ids:
        return f"0 {what}"
    shown = ", ".join(map(str, ids[:_SHOWN]))
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{len(ids)} {what} ({shown}{more})"
