"""The planner: enough and not more, cheap ones first, nobody left apart, the same every time."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from batch.plan import make_plan
from batch.plan_allocation import Allocation, cell_size
from batch.plan_links import connected_groups, links_of, unlinked
from batch.plan_model import (
    Goal,
    PlanTask,
    build_cells,
    measure,
    student,
)

SPREAD = np.random.default_rng(0).normal(0, 1, 2000)


def batch(count=200, classes=("car",), people=(1,), double=0, sd=0.1, start=1, **fields):
    """So many tasks with the same classes, taken by the people in turn; the first are double."""
    tasks = []
    for number in range(count):
        first = people[number % len(people)]
        task = PlanTask(start + number, 1, frozenset(classes), (first,), cost_s=60.0, **fields)
        if number < double:
            values = dict.fromkeys(classes, 0.7 + sd * SPREAD[(start + number) % 2000])
            task = replace(task, annotators=(first, 9), asked=2, values=values)
        tasks.append(task)
    return tasks


def test_the_half_width_is_students_with_the_finite_population_correction():
    tasks = batch(100, double=20)
    values = np.array([task.values["car"] for task in tasks[:20]])
    for beyond, correction in ((False, 1 - 20 / 100), (True, 1.0)):
        goal = Goal(beyond_batch=beyond)
        (car, *_) = measure(tasks, goal, build_cells(tasks, 8))
        half = student(20, 0.95) * values.std(ddof=1) * np.sqrt(correction / 20)
        assert car.half_width == pytest.approx(half)
        assert (car.mean, car.tasks, car.population) == (pytest.approx(values.mean()), 20, 100)


def test_a_batch_that_two_people_drew_whole_is_known_exactly():
    plan = make_plan(batch(30, double=30), Goal())
    assert not plan.asked and plan.is_final
    assert all(one.now.half_width == pytest.approx(0) for one in plan.domains)


def test_so_many_tasks_are_asked_for_that_the_formula_holds_and_one_less_would_not_do():
    tasks = batch(300, double=40, sd=0.2)
    plan = make_plan(tasks, Goal())
    count = 40 + len(plan.asked)
    sd = np.std([task.values["car"] for task in tasks[:40]], ddof=1)

    def half(drawn):
        return student(drawn, 0.95) * sd * np.sqrt((1 - drawn / 300) / drawn)

    assert half(count) <= 0.03 < half(count - 1)
    assert plan.is_final
    assert plan.hours == pytest.approx(len(plan.asked) / 60)


def test_where_nothing_is_known_a_few_tasks_are_looked_at_first_or_the_prior_is_taken():
    look = make_plan(batch(200), Goal(first_tasks=8))
    assert len(look.asked) == 8 and not look.is_final
    assert look.domains[0].looks_first and look.domains[0].sd == 0.15
    at_once = make_plan(batch(200), Goal(at_once=True))
    assert 60 < len(at_once.asked) < 80  # 96 of endless many, 65 of 200, a few for Student's
    assert at_once.is_final


def test_a_rare_class_costs_its_own_tasks_and_not_a_share_of_all():
    tasks = batch(400, double=60) + batch(30, ("bus",), start=1001)
    plan = make_plan(tasks, Goal())
    asked = {one.task_id for one in plan.asked}
    assert sum(number > 1000 for number in asked) == 8
    assert plan.random_tasks > len(asked)


def test_a_task_with_several_lacking_classes_counts_for_all_of_them():
    tasks = batch(60, ("car",)) + batch(60, ("bus",), start=101) + batch(60, ("car", "bus"),
                                                                        start=201)  # fmt: skip
    plan = make_plan(tasks, Goal(first_tasks=8))
    assert all(one.task_id > 200 for one in plan.asked)
    assert len(plan.asked) == 8


def test_dear_tasks_are_asked_for_only_where_they_tell_more():
    cheap = batch(100, ("car",), people=(1,))
    dear = [replace(task, cost_s=600.0) for task in batch(100, ("car",), people=(2,), start=101)]
    plan = make_plan(cheap + dear, Goal(first_tasks=8, common_tasks=0))
    people = [1 if one.task_id <= 100 else 2 for one in plan.asked]
    assert people == [1] * 8


def test_what_is_asked_for_already_is_not_asked_for_again():
    tasks = batch(200)
    first = make_plan(tasks, Goal())
    asked = {one.task_id for one in first.asked}
    waiting = [replace(one, asked=2) if one.id in asked else one for one in tasks]
    again = make_plan(waiting, Goal())
    assert (again.asked, again.pending) == ((), 8)


def test_the_same_batch_plans_the_same_and_another_seed_draws_other_lots():
    tasks = batch(200, people=(1, 2, 3))
    one, other = make_plan(tasks, Goal()), make_plan(list(tasks), Goal())
    assert one.asked == other.asked
    assert make_plan(tasks, Goal(seed=1)).asked != one.asked


def test_annotators_who_share_no_task_get_some_to_share():
    tasks = batch(100, people=(1, 2), double=50) + batch(20, people=(5,), start=501)
    tasks = [replace(one, values={**one.values, "car": 0.8}) if one.values else one
             for one in tasks]  # fmt: skip
    plan = make_plan(tasks, Goal(common_tasks=3))
    assert plan.links.components == ((1, 2, 9), (5,))
    assert sum(one.task_id > 500 for one in plan.asked) >= 3
    assert plan.links.connected_share == 1.0


def test_groups_and_who_lacks_what():
    tasks = batch(6, people=(1,), double=4) + batch(6, people=(2,), start=101)
    assert connected_groups([1, 2, 9], [(1, 9)]) == ((1, 9), (2,))
    assert unlinked(tasks, 3) == {2: 3}
    links = links_of(tasks, set())
    assert links.shared_tasks == {1: 4, 9: 4}
    assert links.connected_share == 0.0


def test_a_third_annotator_is_asked_for_where_two_on_every_task_do_not_tell_enough():
    tasks = [
        replace(task, pair_variance=0.008, annotators=(1, 9, 8)) if task.id <= 10 else task
        for task in batch(60, double=60, sd=0.15)
    ]
    plan = make_plan(tasks, Goal(beyond_batch=True))
    assert plan.asked and all(one.overlap == 3 for one in plan.asked)
    assert not any(one.task_id <= 10 for one in plan.asked)
    assert not make_plan(tasks, Goal()).asked
    unknown = [replace(task, pair_variance=None) for task in tasks]
    assert not make_plan(unknown, Goal(beyond_batch=True)).asked


def test_tasks_that_nobody_has_drawn_count_by_how_frequent_classes_are():
    tasks = batch(40, double=20) + [PlanTask(1000 + n, 1) for n in range(60)]
    plan = make_plan(tasks, Goal())
    assert plan.domains[0].now.population == pytest.approx(100)
    assert all(one.overlap == 2 for one in plan.asked)


def test_an_empty_batch_and_one_without_anything_known_ask_for_nothing_at_all():
    assert make_plan([], Goal()).asked == ()
    assert make_plan([PlanTask(1), PlanTask(2)], Goal()).asked == ()


def test_the_allocation_costs_no_more_than_the_best_one():
    tasks = batch(24, ("car",), double=10, sd=0.11) + batch(
        30, ("car", "bus"), people=(2,), double=10, sd=0.09, start=101
    )
    tasks = [replace(one, cost_s=100.0) if one.id > 100 else one for one in tasks]
    goal = Goal(half_width=0.04, at_once=True)
    cells = build_cells(tasks, 8)
    allocation = Allocation(tasks, cells, measure(tasks, goal, cells), goal)
    found = allocation.solve(np.zeros(len(cells)))
    costs = [
        float((np.array(counts) * allocation.cost_s).sum())
        for counts in product(*(range(int(due), int(size) + 1)
                                for due, size in zip(allocation.due, allocation.sizes,
                                                     strict=True)))
        if allocation.is_satisfied(np.array(counts, dtype=float)).all()
    ]  # fmt: skip
    assert allocation.is_satisfied(found).all()
    assert float((found * allocation.cost_s).sum()) <= min(costs) * 1.02


def test_small_groups_of_tasks_are_merged_until_lots_can_be_drawn():
    tasks = batch(20) + batch(3, ("car", "bus"), start=101) + batch(4, ("bus",), (2,), start=201)
    cells = build_cells(tasks, 5)
    assert sorted(len(cell.members) for cell in cells) == [7, 20]
    assert sorted(index for cell in cells for index in cell.members) == list(range(27))


def test_a_rare_class_keeps_a_small_cell_of_its_own_to_aim_at():
    tasks = batch(2000) + batch(12, ("bus",), start=5001)
    cells = build_cells(tasks, cell_size(tasks, Goal(half_width=0.05)))
    assert sorted(len(cell.members) for cell in cells) == [12, 2000]
