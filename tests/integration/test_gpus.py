"""Who sees which GPU, with a real Ray that believes in two: no GPU is here, so nothing computes on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import torch
import yaml

from spd_ray.base.environment import gpus_hidden
from spd_ray.base.ray_cluster import capacity, gpu_names, join_ray
from spd_ray.records.trials import read_trials
from tests.sweeps import Sweeps

AUTO = {
    "engine": {"precision": "auto", "zero_stage": "auto"},
    "resources": {"gpus_per_worker": "auto"},
    "study": {"sampler": "grid", "trials": 1},
    "retries": 0,
}


@pytest.fixture
def two_gpus(monkeypatch):
    """The variables of a process that starts a Ray with two GPUs, and may use both."""
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2, "GPU": 2}')
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", raising=False)


def worker_class():
    """Made in a function, for Ray to send it whole: a worker cannot import the tests."""

    class Worker:
        def visible(self):
            return os.environ.get("CUDA_VISIBLE_DEVICES")

        def accelerator(self):
            """What DeepSpeed takes for the device, whatever the driver's variable says."""
            from spd_ray.engine import engine

            return os.environ["DS_ACCELERATOR"], engine.get_accelerator().device_name()

    return ray.remote(Worker)


def test_a_worker_sees_what_it_got_and_the_driver_sees_none(two_gpus):
    with gpus_hidden():
        join_ray(None, "ERROR")
        try:
            assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
            assert capacity(None) == {"CPU": 2, "GPU": 2}
            assert gpu_names() == ["GPU", "GPU"]
            for asked, possible in {(0, 0): ["", ""], (1, 1): ["01", "10"], (0.5, 0.5, 1): ["001", "110"]}.items():
                actors = [worker_class().options(num_cpus=0, num_gpus=gpus).remote() for gpus in asked]
                assert "".join(ray.get([actor.visible.remote() for actor in actors])) in possible
                if asked == (0, 0):
                    assert not torch.cuda.is_available(), "written for a machine without a GPU"
                    assert ray.get(actors[0].accelerator.remote()) == ("cpu", "cpu")
                for actor in actors:
                    ray.kill(actor)
        finally:
            ray.shutdown()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_auto_asks_for_a_gpu_and_fp16_where_ray_has_gpus(two_gpus, tiny_teacher, tmp_path):
    """The trial itself cannot be: the worker has a GPU of Ray's, but torch finds none, and says so."""
    done, folder = Sweeps(tmp_path, tiny_teacher, **AUTO)("auto")
    assert "trains on 1 GPU a worker, fp16, ZeRO 1; the cluster: 2 CPUs and 2 GPUs at most" in done.stdout
    content = yaml.safe_load((folder / "sweep.yaml").read_text())
    assert content["spec"]["resources"]["gpus_per_worker"] == 1
    assert (content["spec"]["engine"]["precision"], content["spec"]["engine"]["zero_stage"]) == ("fp16", 1)
    assert content["machine"]["gpus"] == ["GPU", "GPU"]
    (trial,) = read_trials(folder)
    assert (trial.status, trial.precision, trial.zero_stage) == ("failed", "fp16", 1)
    assert "got a GPU from Ray, but torch" in trial.error


# A CUDA that follows the variable, and fails as soon as this process asks for a device.
DRIVER = """
import os, sys, torch
def refuse(*_):
    raise AssertionError("the driver initialises CUDA")
torch.cuda._lazy_init = refuse
torch.cuda.is_available = lambda: os.environ.get("CUDA_VISIBLE_DEVICES") != ""
torch.cuda.device_count = lambda: 2 * torch.cuda.is_available()
from spd_ray.sweep import main
assert torch.cuda.is_available()
code = main(sys.argv[1:])
assert not torch.cuda.is_initialized()
sys.exit(code)
"""


def test_the_driver_of_a_sweep_on_cpus_leaves_the_gpus_of_the_machine_alone(two_gpus, tiny_teacher, tmp_path):
    """It fine-tunes the teacher (of another seed than the cached one) and reads the best student back."""
    sweeps = Sweeps(tmp_path, tiny_teacher, study={"sampler": "grid", "trials": 1})
    sweeps.space["teacher"] = {**sweeps.space["teacher"], "epochs": 1, "seed": 7}
    words = sweeps.command("cpus", "--set", "method.total_epochs=4")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", DRIVER, *words[3:]], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trains on CPUs, fp32, ZeRO 0; the cluster: 2 CPUs and 2 GPUs at most" in done.stdout
    (trial,) = read_trials(tmp_path / "cpus")
    assert trial.status == "finished"
