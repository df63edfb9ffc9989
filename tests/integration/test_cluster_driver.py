"""What the driver leaves to a cluster's workers where its own machine, the head, has no CPU to give."""

import re
from functools import partial

import pytest
from transformers import AutoModelForSequenceClassification

from spd_ray.base.ray_cluster import join_ray, leave_ray
from spd_ray.checks.cost import measure
from spd_ray.training.teacher import make_teacher, predict, read_origin
from spd_ray.trials.on_worker import Worker
from spd_ray.trials.tuning import make_on_workers
from spd_ray.trials.tuning_states import states_of
from tests.ray_nodes import groups_of_places, head_and_two_nodes, processes_on
from tests.sweeps import Sweeps
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def cluster():
    with head_and_two_nodes() as made:
        yield made


def test_a_dry_run_takes_its_two_steps_on_a_worker(cluster, tiny_teacher, tmp_path):
    sweeps = Sweeps(tmp_path, tiny_teacher)
    driver = sweeps.launch(sweeps.command("dry", "--dry-run", "--address", cluster.address))
    try:
        nodes = cluster.worker_nodes
        assert wait_for(lambda: any(processes_on(node, measure.__name__) for node in nodes), driver)
        out, errors = driver.communicate()
    finally:
        sweeps.kill_launched()
    assert driver.returncode == 0, out + errors
    assert "two steps on a worker of 1 CPU and 0 GPUs, when one is free" in out
    assert "step 1: loss" in out
    assert re.search(r"^teacher: 1 learning rate x 48 steps, \d+ ms each", out, re.MULTILINE)
    assert not (tmp_path / "dry").exists()


def test_a_teacher_of_two_ranks_is_that_of_one_up_to_rounding(cluster, tiny_teacher, tmp_path):
    """Without dropout, of which each rank has its own. Batches of 7 are shared as 4 and 3, the last one as 2 and 2."""
    task, model, settings = tiny_teacher.configs
    config = settings.model_copy(update={"epochs": 3, "batch_size": 7, "dropout": 0.0})
    origin, worker = read_origin(task, model, config), Worker(cpus=1, gpus=0.0, retries=0, ranks=2)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    expected = make_teacher(origin, config, folders[0], lambda steps=1, note="": None)
    states = partial(states_of, str(tmp_path / "sweep"), origin.content["teacher"], worker)
    join_ray(cluster.address, "ERROR")
    try:
        assert make_on_workers(worker, states, origin, config, folders[1]) == expected
        assert wait_for(lambda: not groups_of_places(cluster), seconds=20)
    finally:
        leave_ray()
    one, two = (AutoModelForSequenceClassification.from_pretrained(folder) for folder in folders)
    assert (one.classifier.weight != two.classifier.weight).any()  # two ranks it was
    answers = [predict(model, origin.data.dev, 8, "cpu") for model in (one, two)]
    assert answers[1] == pytest.approx(answers[0], rel=1e-3, abs=1e-3)
