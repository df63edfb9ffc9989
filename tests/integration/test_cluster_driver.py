"""What the driver leaves to a cluster's workers where its own machine, the head, has no CPU to give."""

import re

import pytest

from spd_ray.checks.cost import measure
from tests.ray_nodes import head_and_two_nodes, processes_on
from tests.sweeps import Sweeps, wait_for


@pytest.fixture(scope="module")
def cluster():
    with head_and_two_nodes() as made:
        yield made


def test_a_dry_run_takes_its_two_steps_on_a_worker(cluster, tiny_teacher, tmp_path):
    sweeps = Sweeps(tmp_path, tiny_teacher)
    driver = sweeps.launch(sweeps.command("dry", "--dry-run", "--address", cluster.address))
    try:
        nodes = cluster.worker_nodes
        assert wait_for(lambda: any(processes_on(node, measure.__name__) for node in nodes), driver, seconds=120)
        out, errors = driver.communicate(timeout=120)
    finally:
        sweeps.kill_launched()
    assert driver.returncode == 0, out + errors
    assert "two steps on a worker of 1 CPU and 0 GPUs, when one is free" in out
    assert "step 1: loss" in out
    assert re.search(r"^teacher: 1 learning rate x 48 steps, \d+ ms each", out, re.MULTILINE)
    assert not (tmp_path / "dry").exists()
