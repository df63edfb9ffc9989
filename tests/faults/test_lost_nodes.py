"""A node goes and another comes while a sweep runs; and what a sweep holds of a cluster, it gives back."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from ray.experimental import internal_kv

from spd_ray.base.ray_cluster import join_ray, leave_ray
from spd_ray.records import layout
from spd_ray.records.trials import read_trials
from spd_ray.training.fine_tuning import tuning_steps
from spd_ray.training.teacher import count_batches, make_teacher, read_origin, teacher_key
from spd_ray.trials.on_worker import Worker
from spd_ray.trials.ranks import Rank
from spd_ray.trials.signs import NAMESPACE, read_counts
from spd_ray.trials.tuning import make_alone, make_on_workers
from spd_ray.trials.tuning_states import states_of
from tests.ray_nodes import groups_of_places, head_and_two_nodes, processes_on
from tests.sweeps import SPACE, wait_for_saves
from tests.waiting import wait_for

GONE_SECONDS = 20
FINISHED_STEPS = 16  # of the teacher, two epochs


@pytest.fixture(scope="module")
def cluster():
    with head_and_two_nodes() as made:
        yield made


def trials_on(node):
    """The trials' processes on a node of the cluster."""
    return processes_on(node, "Trainable")


def assert_nothing_left(cluster):
    """No process of a trial, no placement group and no CPU of the cluster is held; the cluster lives on."""
    nodes = list(cluster.worker_nodes)
    assert wait_for(lambda: not any(trials_on(node) for node in nodes), seconds=GONE_SECONDS)
    assert wait_for(lambda: not groups_of_places(cluster), seconds=GONE_SECONDS), groups_of_places(cluster)


def test_trials_of_a_lost_node_move_to_another_and_go_on(cluster, sweep_of, usual, count, note):
    times, folder, (other, changes) = count(1, 5), sweep_of.storage / "lost_node", usual
    words = sweep_of.command(folder.name, "--address", cluster.address, **changes)
    started = time.monotonic()
    driver = sweep_of.launch(words)
    for _ in range(times):
        assert wait_for(lambda: all(trials_on(node) for node in cluster.worker_nodes), driver)
        assert wait_for_saves(folder, 1, driver)
        cluster.remove_node(max(cluster.worker_nodes, key=lambda node: node.unique_id), allow_graceful=False)
        time.sleep(1)
        new = cluster.add_node(num_cpus=1)
        assert wait_for(lambda: trials_on(new), driver)  # noqa: B023
    _, errors = driver.communicate()
    assert driver.returncode == 0, errors
    other.assert_equals(folder)
    assert_nothing_left(cluster)
    note("node lost, another added", times, folder, time.monotonic() - started, other.seconds)


def test_trials_of_two_workers_that_end_in_any_way_leave_nothing(cluster, sweep_of):
    """The cluster holds one trial of two workers: each must have given back what it held for the next to begin."""
    words = sweep_of.command(
        "two_workers",
        "--address",
        cluster.address,
        method=SPACE["method"],
        search={"stage1_lr": {"choices": [2e-3, 1e30]}, "stage23_lr": {"choices": [2e-3, 10.0]}},
        study={"sampler": "grid", "trials": 4, "seeds": [0]},
        resources={"workers": 2, "cpus_per_worker": 1},
        early_stopping={"rungs": [0.8], "reduction_factor": 10.0},
    )
    driver = sweep_of.launch(words)
    most = 0
    while driver.poll() is None:
        most = max(most, len(groups_of_places(cluster)))
        time.sleep(0.2)
    out, errors = driver.communicate()
    assert driver.returncode == 0, out + errors
    ended = [trial.status for trial in read_trials(sweep_of.storage / "two_workers")]
    assert sorted(ended) == ["failed", "failed", "finished", "stopped"]
    assert most == 1
    assert_nothing_left(cluster)


def test_a_driver_that_is_killed_leaves_nothing_on_the_cluster(cluster, sweep_of, count):
    if count(0, 1) == 0:
        pytest.skip(
            "one more sweep; that a local sweep's trials die with its driver is tested in test_killed_driver.py"
        )
    words = sweep_of.command("orphaned", "--address", cluster.address)
    driver = sweep_of.launch(words)
    assert wait_for(lambda: all(trials_on(node) for node in cluster.worker_nodes), driver)
    driver.kill()
    driver.wait()
    assert_nothing_left(cluster)


def counters():
    """The names of all that has told a count or a sign to the cluster that this process has joined."""
    return {name.decode() for name in internal_kv._internal_kv_list("", namespace=NAMESPACE)}


def newest_states(sweep):
    """For each learning rate that has a state the steps after which it was kept."""
    kept = [sorted(folder.glob("step-*")) for folder in layout.states(sweep).glob("teacher-*")]
    return [int(states[-1].name.removeprefix("step-")) for states in kept if states]


@pytest.mark.parametrize(("ranks", "learning_rates"), [(1, (1e-7, 2e-3)), (2, (2e-3,))])
def test_a_teachers_learning_rates_are_tasks_of_their_own_and_one_whose_node_is_lost_goes_on(
    cluster, tiny_teacher, tmp_path, count, ranks, learning_rates
):
    """The driver's machine gets what an undisturbed cluster would have given it, bit for bit, whichever node made it.

    One rank gives what the driver itself would have made. No count of steps falls below what all had a state of when
    the node went: finished epochs are not repeated.
    """
    if ranks > count(1, 2):
        pytest.skip("two ranks take a minute; that they make one rank's teacher is tested in test_cluster_driver.py")
    task, model, settings = tiny_teacher.configs
    config = settings.model_copy(update={"epochs": 120, "learning_rates": learning_rates})
    origin, worker = read_origin(task, model, config), Worker(cpus=1, gpus=0.0, retries=2, ranks=ranks)
    here, there, sweep = (tmp_path / name for name in ("here", "there", "sweep"))
    here.mkdir()
    there.mkdir()
    states = partial(states_of, str(sweep), origin.content["teacher"], worker)
    join_ray(cluster.address, "ERROR")
    try:
        if ranks == 1:
            told = []
            expected = make_teacher(origin, config, here, lambda steps=1, note="": told.append(steps))
            assert sum(told) == count_batches(config, origin.data)
        else:
            elsewhere = partial(states_of, str(tmp_path / "undisturbed"), origin.content["teacher"], worker)
            expected = make_on_workers(worker, elsewhere, origin, config, here)
        with ThreadPoolExecutor(1) as thread:
            others = counters()
            made = thread.submit(make_on_workers, worker, states, origin, config, there)

            def counts():
                return list(read_counts(counters() - others).values())

            for known in (partial(newest_states, sweep), counts):
                assert wait_for(
                    lambda: len(known()) == len(learning_rates) and min(known()) >= FINISHED_STEPS  # noqa: B023
                )
            nodes = cluster.worker_nodes
            lost = min(nodes, key=lambda node: len(processes_on(node, make_alone.__name__)))  # not that of rank 0
            assert processes_on(lost, Rank.__name__ if ranks > 1 else make_alone.__name__)
            cluster.remove_node(lost, allow_graceful=False)
            assert max(newest_states(sweep)) < tuning_steps(config, origin.data) / len(learning_rates)  # none was done
            cluster.add_node(num_cpus=1)
            seen = []
            while not made.done():
                seen += counts()
                time.sleep(0.02)
            assert made.result() == expected
            assert FINISHED_STEPS <= min(seen) < max(seen)
    finally:
        leave_ray()
    assert expected.learning_rate == 2e-3
    assert tuple(rate for rate, _ in expected.tried) == learning_rates
    assert teacher_key(there) == teacher_key(here)
