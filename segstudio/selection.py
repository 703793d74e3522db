"""Which annotation of a task counts: the annotation policy, the same for every command.

Skipped (cancelled) annotations and drafts never count, predictions only on request. One annotator
with several annotations on a task counts once, with the one changed last: it is what they stand by
now, and what is measured is then what is delivered. The older ones are kept out and counted
(`newest_by_annotator`, the one rule for exports and checks). Nothing is ever mixed silently:
where the policy leaves a choice open, `Survey.error` words it over all tasks before anything is
written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from segstudio.errors import UsageError
from segstudio.tasks import Annotation, Prediction, Task

PolicyKind = Literal["default", "ground-truth", "consensus", "newest", "user", "all", "predictions"]
OpenChoice = Literal["several-annotators", "several-ground-truths", "several-models"]

_NAMES: tuple[PolicyKind, ...] = ("ground-truth", "consensus", "newest", "all")
_HELP = "ground-truth, consensus, newest, user:ID, all or predictions[:MODEL_VERSION]"
_EXAMPLES_SHOWN = 5


class SelectionError(UsageError):
    """A choice of annotation is open, or the policy fits no task."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed annotation policy.

    `user_id` only for kind "user"; `model_version` only for "predictions", None for any model.
    """

    kind: PolicyKind = "default"
    user_id: int | None = None
    model_version: str | None = None

    def __str__(self) -> str:
        if self.kind == "user":
            return f"user:{self.user_id}"
        return self.kind if self.model_version is None else f"{self.kind}:{self.model_version}"

    @property
    def sentence(self) -> str:
        """What the policy takes, as a card says it."""
        return {
            "default": "the one ground truth, else the only annotator's",
            "ground-truth": "the ground truth",
            "consensus": "the consensus of all annotators",
            "newest": "the annotation updated last",
            "user": f"the annotation of user {self.user_id}",
            "all": "every annotator's, each in a folder of their own",
            "predictions": f"the predictions of {self.model_version or 'the only model'}, "
            "which nobody has checked",
        }[self.kind]


def parse_policy(text: str | None) -> Policy:
    """Return the policy that a command line names; None is the default.

    Raises:
        UsageError: no such policy.

    >>> parse_policy("user:7").user_id
    7
    """
    if text is None:
        return Policy()
    if text in _NAMES:
        return Policy(text)
    head, _, number = text.partition(":")
    if head == "user":
        if number.isdecimal():
            return Policy("user", int(number))
        raise UsageError(
            f"The annotation policy '{text}' needs a user id, for example user:7 "
            "(the number in Label Studio's `completed_by`)."
        )
    if head == "predictions":
        return Policy("predictions", model_version=number or None)
    raise UsageError(f"There is no annotation policy '{text}'. Choose {_HELP}.")


@dataclass(frozen=True, slots=True)
class Choice:
    """What the policy takes of one task.

    `annotations` is empty when the task is left out, with `left_out` saying why; `open_choice`
    is set instead when the policy cannot decide. Of the policies only "consensus" and "all" take
    more than one annotation, in the order of annotator ids.
    """

    annotations: tuple[Annotation, ...] = ()
    left_out: str | None = None
    open_choice: OpenChoice | None = None
    superseded: int = 0


def submitted(task: Task) -> tuple[Annotation, ...]:
    """Return the annotations that may count: all but the skipped ones."""
    return tuple(annotation for annotation in task.annotations if not annotation.was_cancelled)


def choose(task: Task, policy: Policy) -> Choice:
    """Return what the policy takes of one task."""
    if policy.kind == "predictions":
        return _choose_prediction(task, policy.model_version)
    candidates = submitted(task)
    if not candidates:
        return Choice(left_out="only skipped" if task.annotations else "not annotated")
    if policy.kind in ("default", "ground-truth"):
        truths = [annotation for annotation in candidates if annotation.ground_truth]
        if len(truths) > 1:
            return Choice(open_choice="several-ground-truths")
        if truths:
            return Choice((truths[0],))
        if policy.kind == "ground-truth":
            return Choice(left_out="no ground truth")
    if policy.kind == "newest":
        return Choice((max(candidates, key=_age_key),))
    of_user = newest_by_annotator(candidates)
    if policy.kind == "user":
        mine = of_user.get(policy.user_id)
        if mine is None:
            return Choice(left_out=f"nothing by user {policy.user_id}")
        count = sum(annotation.completed_by == policy.user_id for annotation in candidates)
        return Choice((mine,), superseded=count - 1)
    if policy.kind == "default" and len(of_user) > 1:
        return Choice(open_choice="several-annotators")
    ordered = sorted(of_user, key=lambda user: (user is None, user or 0))
    return Choice(
        tuple(of_user[user] for user in ordered), superseded=len(candidates) - len(of_user)
    )


def _choose_prediction(task: Task, model_version: str | None) -> Choice:
    wanted = [one for one in task.predictions if model_version in (None, one.model_version)]
    if not wanted:
        return Choice(left_out=f"no prediction{f' of {model_version}' if model_version else ''}")
    if len({one.model_version for one in wanted}) > 1:
        return Choice(open_choice="several-models")
    newest = max(wanted, key=lambda one: one.id or 0)
    return Choice((_as_annotation(newest),), superseded=len(wanted) - 1)


def _as_annotation(prediction: Prediction) -> Annotation:
    """Return a prediction in the shape of an annotation by nobody."""
    return Annotation(
        id=prediction.id,
        regions=prediction.regions,
        completed_by=None,
        was_cancelled=False,
        ground_truth=False,
        created_at=None,
        updated_at=None,
        lead_time_s=None,
        parent_prediction=None,
        answers=prediction.answers,
        unique_id=None,
        problems=prediction.problems,
    )


def newest_by_annotator(candidates: Iterable[Annotation]) -> dict[int | None, Annotation]:
    """Return each annotator's annotation that counts: the one changed last, of equals the later id.

    Args:
        candidates: annotations that may count, see `submitted`. Those of an unknown annotator
            (`completed_by` None) are taken for one person's.
    """
    newest: dict[int | None, Annotation] = {}
    for annotation in candidates:
        held = newest.get(annotation.completed_by)
        if held is None or _age_key(annotation) > _age_key(held):
            newest[annotation.completed_by] = annotation
    return newest


def _age_key(annotation: Annotation) -> tuple[datetime, int]:
    """Order by time of the last change, then by id; an unreadable time is the oldest."""
    for text in (annotation.updated_at, annotation.created_at):
        if text:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                continue
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return aware, annotation.id or 0
    return datetime.min.replace(tzinfo=UTC), annotation.id or 0


@dataclass(slots=True)
class Survey:
    """Counts over all tasks, of what a policy took and what it could not decide."""

    policy: Policy
    tasks: int = 0
    chosen: int = 0
    superseded: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    annotators: Counter[int | None] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    with_ground_truth: int = 0
    _open: dict[str, list[int]] = field(default_factory=dict)
    _open_count: Counter[str] = field(default_factory=Counter)

    def add(self, task: Task) -> Choice:
        """Count one task and return what the policy takes of it."""
        choice = choose(task, self.policy)
        candidates = submitted(task)
        self.tasks += 1
        self.annotators.update({annotation.completed_by for annotation in candidates})
        self.models.update({prediction.model_version for prediction in task.predictions})
        self.with_ground_truth += any(annotation.ground_truth for annotation in candidates)
        self.superseded += choice.superseded
        if choice.open_choice:
            self._open_count[choice.open_choice] += 1
            examples = self._open.setdefault(choice.open_choice, [])
            if len(examples) < _EXAMPLES_SHOWN:
                examples.append(task.id)
        elif choice.left_out:
            self.left_out[choice.left_out] += 1
        else:
            self.chosen += 1
        return choice

    def error(self) -> SelectionError | None:
        """Return the sentence that stops a command after all tasks were counted, or None."""
        sentences = [self._open_sentence(kind) for kind in sorted(self._open_count)]
        if sentences:
            return SelectionError(" ".join(sentences))
        if self.tasks and not self.chosen:
            return SelectionError(self._nothing_sentence())
        return None

    def _open_sentence(self, kind: str) -> str:
        count, ids = self._open_count[kind], ", ".join(map(str, self._open[kind]))
        more = ", ..." if count > len(self._open[kind]) else ""
        tasks = f"{count} of {self.tasks} tasks (ids {ids}{more})"
        verb = "has" if count == 1 else "have"
        if kind == "several-models":
            return (
                f"{tasks} {verb} predictions of several models. Choose one with --annotations "
                f"predictions:MODEL_VERSION. Models: {self._model_list()}."
            )
        if kind == "several-ground-truths":
            return (
                f"{tasks} {verb} several ground truths, and only one can be true. Unset all but "
                "one in Label Studio (the star of the annotation), or choose --annotations "
                f"consensus, newest, user:ID or all. Annotators: {self._annotator_list()}."
            )
        return (
            f"{tasks} {verb} annotations by several annotators and no ground truth. Choose one "
            f"with --annotations: {self._choices()}. Annotators: {self._annotator_list()}."
        )

    def _nothing_sentence(self) -> str:
        if self.policy.kind == "predictions":
            return (
                f"None of {self.tasks} tasks has {self.policy.sentence.partition(',')[0]}. "
                f"Models: {self._model_list() or 'none'}."
            )
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(self.left_out.items()))
        advice = (
            f"Annotators: {self._annotator_list()}; choose --annotations {self._choices()}."
            if self.annotators
            else "Submit an annotation first."
        )
        return (
            f"No annotation fits the policy '{self.policy}' in any of {self.tasks} tasks "
            f"({reasons}). {advice}"
        )

    def _choices(self) -> str:
        users = [user for user in self.annotators if user is not None]
        example = f"user:{min(users)}" if users else "user:ID"
        truth = f"ground-truth ({self.with_ground_truth} tasks), " if self.with_ground_truth else ""
        return f"{truth}consensus, newest, {example} or all"

    def _annotator_list(self) -> str:
        ranked = sorted(self.annotators.items(), key=lambda item: (-item[1], str(item[0])))
        shown = [f"{_user_text(user)} ({count} tasks)" for user, count in ranked[:20]]
        more = f" and {len(ranked) - 20} more" if len(ranked) > 20 else ""
        return ", ".join(shown) + more

    def _model_list(self) -> str:
        ranked = sorted(self.models.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"'{version}' ({count} tasks)" for version, count in ranked[:20])

    def as_json(self) -> Mapping[str, object]:
        """Return the counts as a card records them."""
        return {
            "policy": str(self.policy),
            "takes": self.policy.sentence,
            "tasks_read": self.tasks,
            "tasks_taken": self.chosen,
            "tasks_left_out": dict(sorted(self.left_out.items())),
            "older_annotations_of_one_annotator": self.superseded,
        }


def _user_text(user: int | None) -> str:
    return "an unknown user" if user is None else f"user {user}"


def annotator_folder(annotator_id: int | None) -> str:
    """Return the folder of one annotator's files under the policy "all".

    >>> annotator_folder(3), annotator_folder(None)
    ('annotator-3', 'annotator-unknown')
    """
    return f"annotator-{'unknown' if annotator_id is None else annotator_id}"
