"""What annotators wrote about hard cases: notes on regions and images, and what they marked.

Read are the note of a region (the editor's own, or any TextArea), the TextAreas about an image, and
the choices of a control named ``ambiguous``, as the interfaces of `label_configs` have them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from segstudio.plugins import CheckContext
from segstudio.tasks import Task

AMBIGUOUS: Final = "ambiguous"
MAX_NOTES: Final = 30
_MAX_CHARS: Final = 300
_REGION_NOTES: Final = ("note", "meta.note")


@dataclass(frozen=True, slots=True)
class EdgeNote:
    """One note: its text, who wrote it, on which task."""

    text: str
    annotator_id: int | None
    task_id: int


@dataclass(slots=True)
class EdgeNotes:
    """The notes and doubts of a batch; at most ``MAX_NOTES`` different notes a class are kept.

    ``of_images`` are those about whole images, ``doubts`` the choices by class.
    """

    of_class: dict[str, list[EdgeNote]] = field(default_factory=dict)
    of_images: list[EdgeNote] = field(default_factory=list)
    doubts: dict[str, Counter[str]] = field(default_factory=dict)

    def offer(self, task: Task, context: CheckContext) -> None:
        """Read what the annotators of one task wrote; skipped annotations are left out."""
        texts = {control.name for control in context.label_config.controls_of("textarea")}
        keys = (*_REGION_NOTES, *sorted(texts - {*_REGION_NOTES}))
        for annotation in task.annotations:
            if annotation.was_cancelled:
                continue
            person = annotation.completed_by
            for region in annotation.regions:
                if not region.attributes:
                    continue
                name = _class_name(region.labels, context)
                if name is None:
                    continue
                for key in keys:
                    for text in _texts(region.attributes.get(key)):
                        note = EdgeNote(text, person, task.id)
                        self._keep(self.of_class.setdefault(name, []), note)
                marked = _texts(region.attributes.get(AMBIGUOUS))
                if marked:
                    self.doubts.setdefault(name, Counter()).update(marked)
            for answer in _image_answers(annotation.answers, texts):
                for text in _texts(answer):
                    self._keep(self.of_images, EdgeNote(text, person, task.id))

    def _keep(self, notes: list[EdgeNote], note: EdgeNote) -> None:
        known = any((one.text, one.annotator_id) == (note.text, note.annotator_id) for one in notes)
        if not known and len(notes) < MAX_NOTES:
            notes.append(note)

    def doubts_of(self, name: str) -> tuple[tuple[str, int], ...]:
        """What was marked on regions of a class, the most frequent first."""
        return tuple(sorted(self.doubts.get(name, {}).items(), key=lambda one: (-one[1], one[0])))


def _class_name(labels: Iterable[str], context: CheckContext) -> str | None:
    found = (context.taxonomy.by_label(label) for label in labels)
    return next((one.name for one in found if one is not None), None)


def _image_answers(answers: Mapping[str, Any], texts: set[str]) -> Iterable[Any]:
    """Answers about the image; those of later pages are named "control[n]"."""
    for key, answer in answers.items():
        if key in texts or (key.endswith("]") and key.rpartition("[")[0] in texts):
            yield answer


def _texts(answer: Any) -> list[str]:
    """An answer's texts; choices of a tree come as paths, of which the last part counts."""
    if isinstance(answer, str):
        answer = [answer]
    if not isinstance(answer, list):
        return []
    texts = [str(one[-1]) if isinstance(one, list) and one else one for one in answer]
    cleaned = (" ".join(one.split()) for one in texts if isinstance(one, str))
    return [
        one if len(one) <= _MAX_CHARS else one[: _MAX_CHARS - 1] + "…" for one in cleaned if one
    ]
