"""A plan in words for the terminal, and as JSON."""

from __future__ import annotations

from typing import Any

from batch.plan import BatchPlan, DomainPlan
from segstudio.source import Selection

_ROWS = 40


def plan_json(plan: BatchPlan, selection: Selection) -> dict[str, Any]:
    """Return the plan as JSON: what is asked for, of which batch, and why."""
    goal = plan.goal
    return {
        "selection": selection.as_json(),
        "goal": {
            "half_width": goal.half_width,
            "confidence": goal.confidence,
            "prior_sd": goal.prior_sd,
            "first_tasks": goal.first_tasks,
            "common_tasks": goal.common_tasks,
            "beyond_batch": goal.beyond_batch,
            "at_once": goal.at_once,
            "seed": goal.seed,
        },
        "tasks": plan.tasks,
        "doubly_annotated": plan.double,
        "asked_for_earlier": plan.pending,
        "asked": [
            {"task": one.task_id, "project": one.project_id, "overlap": one.overlap}
            for one in plan.asked
        ],
        "hours": plan.hours,
        "random_tasks": plan.random_tasks,
        "is_final": plan.is_final,
        "domains": [_domain_json(one) for one in plan.domains],
        "annotators": {
            "groups": [list(group) for group in plan.links.components],
            "shared_tasks": {str(key): one for key, one in plan.links.shared_tasks.items()},
            "connected_share": plan.links.connected_share,
        },
    }


def plan_text(plan: BatchPlan, selection: Selection) -> str:
    """Return what the plan would do, what it costs and what it tells, as lines."""
    goal = plan.goal
    scope = "tasks like these" if goal.beyond_batch else "this batch"
    lines = [
        f"{selection.text}: {plan.tasks} tasks, {plan.double} drawn by two people or more"
        + (f", {plan.pending} more asked for and not drawn yet" if plan.pending else ""),
        f"Goal: every class and annotator within ±{goal.half_width:g} at "
        f"{goal.confidence:.0%}, for {scope}.",
        "",
        *_table(plan),
        "",
        *_links(plan),
        *_asked(plan),
    ]
    return "\n".join(lines)


def _asked(plan: BatchPlan) -> list[str]:
    if not plan.asked:
        if plan.pending:
            return ["Nothing new to ask for: the tasks asked for earlier come first."]
        if plan.is_final:
            return ["The goal is reached: no task needs another annotator."]
        return ["No task is left that could get a second annotator; the goal is not reached."]
    seconds = sum(one.overlap == 2 for one in plan.asked)
    thirds = len(plan.asked) - seconds
    what = f"{seconds} tasks get a second annotator"
    if thirds:
        what += f", {thirds} a third"
    lines = [f"Plan: {what}; about {plan.hours:.1f} hours{_cost_note(plan)}."]
    looking = [
        str(one.now.name) for one in plan.domains if one.looks_first and one.now.kind == "class"
    ]
    if looking:
        names = ", ".join(looking[:6]) + (" and others" if len(looking) > 6 else "")
        lines.append(
            f"This is a first look: how much {names} vary between tasks is not known. Plan again "
            f"when these are drawn (or --at-once, which assumes a spread of "
            f"{plan.goal.prior_sd:g})."
        )
    elif plan.random_tasks is not None and plan.is_final:
        lines.append(
            f"Tasks drawn by lot from all would need about {plan.random_tasks} for the same."
        )
    if not looking and not plan.is_final:
        lines.append(
            "The spread of some is known from few tasks: plan again when these are drawn; it may "
            "ask for some more."
        )
    return lines


def _cost_note(plan: BatchPlan) -> str:
    if plan.known_costs >= 0.999:
        return ", by the tasks' own lead times"
    return f" (lead times are known of {plan.known_costs:.0%} of the tasks)"


def _table(plan: BatchPlan) -> list[str]:
    head = ("", "tasks", "twice", "mean", "± now", "spread", "then twice", "± then")
    rows = [head, *(_row(one) for one in plan.domains[:_ROWS])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    if len(plan.domains) > _ROWS:
        lines.append(f"{len(plan.domains) - _ROWS} more (--out FILE.json has all)")
    if any(one.sd_is_prior for one in plan.domains):
        lines.append("* assumed, in part or whole: fewer tasks than --first are known")
    return lines


def _row(one: DomainPlan) -> tuple[str, ...]:
    now = one.now
    name = str(now.name) if now.kind == "class" else f"annotator {now.name}"
    return (
        name,
        f"{now.population:.0f}",
        str(now.tasks),
        _number(now.mean),
        _number(now.half_width),
        f"{one.sd:.3f}{'*' if one.sd_is_prior else ''}",
        f"{one.planned_tasks:.0f}",
        "reached" if one.is_reached else "look" if one.looks_first else _number(one.half_width),
    )


def _links(plan: BatchPlan) -> list[str]:
    groups = plan.links.components
    if len(groups) == 0:
        return []
    if len(groups) == 1 and len(groups[0]) > 1:
        return [f"All {len(groups[0])} annotators hang together by common tasks."]
    if len(groups) == 1:
        return ["One annotator so far: nobody to compare with yet."]
    apart = "; ".join(", ".join(map(str, group)) for group in groups[:6])
    return [
        f"Annotators in {len(groups)} groups without common tasks ({apart}). Once the plan is "
        f"drawn, all hang together with a chance of {plan.links.connected_share:.0%}, if the "
        "others take the tasks as they have drawn so far."
    ]


def _domain_json(one: DomainPlan) -> dict[str, Any]:
    now = one.now
    return {
        "kind": now.kind,
        "name": now.name,
        "tasks": now.population,
        "doubly_annotated": now.tasks,
        "mean": None if now.mean is None else float(now.mean),
        "half_width": now.half_width,
        "sd": one.sd,
        "sd_is_prior": one.sd_is_prior,
        "planned_tasks": one.planned_tasks,
        "expected_half_width": one.half_width,
        "is_reached": one.is_reached,
        "looks_first": one.looks_first,
    }


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
