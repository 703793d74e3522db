"""One map, several engines: the same results in the same order, failures kept apart."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import pytest

from segstudio.compute import Result, available_workers, map_tasks
from segstudio.errors import SegstudioError

ENGINES = [{"workers": 1}, {"workers": 2}, {"workers": 2, "in_flight": 1}, {"workers": None}]


def square(number):
    return number * number


def slow_when_even(number):
    time.sleep(0.05 if number % 2 == 0 else 0.0)
    return number


def fail_on(bad, item):
    if item.id in bad:
        raise KeyError(f"no mask in {item.id}")
    return item.id


def refuse(number):
    raise SegstudioError(f"The number {number} is not welcome.")


def die_on_three(number):
    if number == 3:
        os._exit(9)
    return number


def give_a_lambda(number):
    return (lambda: number) if number == 2 else number


@pytest.mark.parametrize("options", ENGINES)
def test_results_come_in_input_order_whatever_the_engine(options):
    results = list(map_tasks(slow_when_even, range(30), **options))
    assert results == [Result(number) for number in range(30)]


@pytest.mark.parametrize("options", ENGINES)
def test_nothing_in_gives_nothing_out(options):
    assert list(map_tasks(square, [], **options)) == []


@pytest.mark.parametrize("options", ENGINES[:2])
def test_a_failing_item_is_reported_with_its_task_and_stops_nothing(options):
    items = [SimpleNamespace(id=number) for number in range(1, 6)]
    results = list(map_tasks(partial(fail_on, {2, 4}), items, **options))
    assert [one.value for one in results] == [1, None, 3, None, 5]
    errors = [one.error for one in results if one.error is not None]
    assert [one.task_id for one in errors] == [2, 4]
    assert errors[0].kind == "task-failed"
    assert errors[0].message.startswith("KeyError: 'no mask in 2' (test_compute.py, line ")


@pytest.mark.parametrize("options", ENGINES[:2])
def test_an_error_that_is_a_sentence_stays_one(options):
    (result,) = map_tasks(refuse, [7], **options)
    assert result.error.message == "The number 7 is not welcome."


@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 2, "in_flight": 4}])
def test_the_input_is_pulled_no_further_than_the_window(options):
    pulled = []

    def numbers():
        for number in range(100):
            pulled.append(number)
            yield number

    results = map_tasks(square, numbers(), **options)
    for expected in range(10):
        assert next(results).value == expected**2
        assert len(pulled) <= expected + 1 + options.get("in_flight", 1)
    results.close()
    assert len(pulled) < 20


@pytest.mark.parametrize("options", ENGINES)
def test_an_input_that_fails_hands_out_what_came_before_and_then_fails(options):
    def numbers():
        yield from range(20)
        raise SegstudioError("The file is cut off.")

    seen = []
    with pytest.raises(SegstudioError, match="cut off"):
        for result in map_tasks(square, numbers(), **options):
            seen.append(result.value)
    assert seen == [number**2 for number in range(20)]


def test_an_item_that_kills_its_worker_is_the_only_one_lost():
    results = list(map_tasks(die_on_three, range(8), workers=2))
    assert [one.value for one in results] == [0, 1, 2, None, 4, 5, 6, 7]
    assert results[3].error.kind == "worker-died"


def test_a_value_that_cannot_be_sent_back_is_a_failure_of_its_item():
    results = list(map_tasks(give_a_lambda, range(4), workers=2))
    assert [one.value for one in results] == [0, 1, None, 3]
    assert "pickle" in results[2].error.message.lower()


def test_a_function_that_cannot_be_sent_is_refused_at_once():
    with pytest.raises(SegstudioError, match="use workers=1"):
        list(map_tasks(lambda number: number, range(3), workers=2))
    assert [one.value for one in map_tasks(lambda number: number, range(3), workers=1)] == [0, 1, 2]


@pytest.mark.parametrize("options", [{"workers": 0}, {"in_flight": 0}])
def test_numbers_that_make_no_sense_are_refused(options):
    with pytest.raises(SegstudioError, match="at least 1"):
        list(map_tasks(square, [1], **options))


def test_the_summary_goes_to_stderr_and_counts_failures(capfd):
    items = [SimpleNamespace(id=number) for number in (1, 2)]
    list(map_tasks(partial(fail_on, {2}), items, workers=1, label="masks", total=2))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("masks: 2 of 2 in ")
    assert err.rstrip().endswith("1 failed")


def test_without_a_label_nothing_is_printed(capfd):
    list(map_tasks(square, [1], workers=1))
    assert capfd.readouterr() == ("", "")


INTERRUPTED = """
import os, time
from segstudio.compute import map_tasks

def slow(number):
    os.write(1, f"{os.getpid()}\\n".encode())  # in one piece, unlike print
    time.sleep(60)

if __name__ == "__main__":
    try:
        list(map_tasks(slow, range(8), workers=2))
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_stops_at_once_and_leaves_no_worker(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    workers = [int(process.stdout.readline()) for _ in range(2)]
    started_s = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    rest, _ = process.communicate(timeout=20)
    assert rest.split() == ["stopped"]
    assert time.monotonic() - started_s < 10
    for worker in workers:
        assert not _is_running(worker)


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_a_cluster_gives_the_same_results():
    pytest.importorskip("ray", reason="the extra 'scale' is not installed")
    items = [SimpleNamespace(id=number) for number in range(1, 6)]
    on_cluster = list(map_tasks(partial(fail_on, {2}), items, workers=2, cluster="local"))
    assert on_cluster == list(map_tasks(partial(fail_on, {2}), items, workers=1))


def test_without_the_extra_a_cluster_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SegstudioError, match=r"pip install 'segstudio\[scale\]'"):
        list(map_tasks(square, [1], cluster="local"))


def test_there_is_at_least_one_worker():
    assert available_workers() >= 1
