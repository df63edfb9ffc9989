"""`auto` in a space: what it becomes on which cluster, and that a sweep which goes on never changes it."""

from pathlib import Path

import pytest
import yaml

from spd_ray.base import ray_cluster
from spd_ray.base.errors import UserError
from spd_ray.config import auto
from spd_ray.config.load import load_spec
from spd_ray.driver.place import begin_or_continue
from spd_ray.records import layout
from spd_ray.records.provenance import write_sweep_yaml
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.study.study import create_study
from tests.spaces import SPACES, TASK, load

AUTO = "engine: {precision: auto, zero_stage: auto}\nresources: {gpus_per_worker: auto}\n"


def found(spec):
    """GPUs a worker, precision and ZeRO stage."""
    return spec.resources.worker_gpus, spec.engine.precision, spec.engine.zero_stage


@pytest.mark.parametrize(
    ("have", "settings", "expected"),
    [
        ({"CPU": 8, "GPU": 2}, [], (1, "fp16", 1)),
        ({"CPU": 8}, [], (0, "fp32", 0)),
        ({"CPU": 8, "GPU": 2}, ["resources.gpus_per_worker=0"], (0, "fp32", 0)),
        ({"CPU": 8, "GPU": 2}, ["resources.gpus_per_worker=0.25"], (0.25, "fp16", 1)),
        ({"CPU": 8, "GPU": 2}, ["engine.precision=bf16", "engine.zero_stage=2"], (1, "bf16", 2)),
        ({"CPU": 8}, ["engine.precision=bf16"], (0, "bf16", 0)),
        ({"CPU": 8, "GPU": 2}, ["method.clip_over=all"], (1, "fp32", 0)),
        ({"CPU": 8, "GPU": 2}, ["search.clip_over={choices: [all, trained]}"], (1, "fp32", 0)),
    ],
)
def test_what_auto_becomes(have, settings, expected, tmp_path):
    spec = auto.resolve(load(tmp_path, TASK + AUTO, *settings), have)
    assert found(spec) == expected
    engine = spec.trial_config({name: one.value(0) for name, one in spec.dimensions().items()}, seed=0).engine
    assert (engine.precision, engine.zero_stage) == expected[1:]


def test_the_resolved_space_is_the_same_as_one_that_says_so(tmp_path):
    spec = auto.resolve(load(tmp_path, TASK + AUTO), {"GPU": 1})
    settings = ["resources.gpus_per_worker=1", "engine.precision=fp16", "engine.zero_stage=1"]
    assert spec == load(tmp_path, TASK, *settings)
    assert spec.space_hash() == load(tmp_path, TASK, *settings).space_hash()
    assert auto.describe(spec) == "1 GPU a worker, fp16, ZeRO 1"
    assert auto.describe(load(tmp_path, TASK)) == "CPUs, fp32, ZeRO 0"


def test_nothing_runs_before_auto_is_resolved(tmp_path):
    spec = load(tmp_path, TASK + AUTO)
    with pytest.raises(ValueError, match="has not been resolved"):
        spec.resources.slots({"CPU": 8})
    with pytest.raises(ValueError, match="precision"):
        spec.trial_config({}, seed=0)


@pytest.fixture
def begun(tmp_path):
    """A sweep that was begun with `auto` on a cluster with GPUs: its specification as written, and its storage."""
    spec = load(tmp_path, TASK + AUTO + "search: {p0: {choices: [0.2, 0.5]}}\n")
    resolved = auto.resolve(spec, {"GPU": 4})
    folder = tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    Ledger(resolved, create_study(resolved, layout.study_journal(folder)), folder).next_due()
    write_sweep_yaml(resolved, folder, "a command", ["H100"], {})
    return spec, SweepStorage(str(folder), "driver")


def test_a_sweep_goes_on_as_it_was_begun_whatever_there_is_now(begun, tmp_path):
    spec, storage = begun
    again = begin_or_continue(storage, spec, resume=True, replace=False, check_first=lambda spec: None)
    assert found(auto.resolve(again, {"CPU": 8})) == (1, "fp16", 1)
    content = yaml.safe_load(layout.sweep_yaml(storage.folder).read_text())
    assert content["spec"]["engine"]["precision"] == "fp16"
    assert content["machine"]["gpus"] == ["H100"]


def test_a_sweep_does_not_go_on_in_another_precision(begun, tmp_path):
    _, storage = begun
    other = load_spec(tmp_path / "x.yaml", ["engine.precision=fp32"])
    with pytest.raises(UserError, match=r'was begun with engine\.precision = "fp16", and now it is "fp32"'):
        begin_or_continue(storage, other, resume=True, replace=False, check_first=lambda spec: None)


@pytest.mark.parametrize("task", ["cola", "mrpc", "qnli", "rte", "sst2", "stsb"])
def test_the_tasks_of_the_paper_train_on_gpus_where_there_are_some(task):
    spec = load_spec(SPACES / f"{task}.yaml")
    assert found(auto.resolve(spec, {"CPU": 16, "GPU": 1})) == (1, "fp16", 1)
    assert found(auto.resolve(spec, {"CPU": 16})) == (0, "fp32", 0)
    assert found(auto.resolve(load_spec(SPACES / f"{task}.yaml", profile="mini"), {"GPU": 1})) == (0, "fp32", 0)


# GPUs that come by autoscaling: the cluster has none yet.

TYPES = {
    "head": {"resources": {"CPU": 0}},
    "spot": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 8},
    "big": {"resources": {"CPU": 64, "GPU": 8}, "max_workers": 1},
    "cpu": {"resources": {"CPU": 96}, "max_workers": 5},
}


def cluster_of(limit):
    return {"head_node_type": "head", "max_workers": limit, "available_node_types": TYPES}


@pytest.mark.parametrize(
    ("limit", "gpus", "cpus"),
    [
        (20, 8 + 8 * 1, 5 * 96 + 64 + 8 * 4),
        (3, 8 + 2 * 1, 3 * 96),  # of three nodes, the best for each
        (0, 0, 0),
    ],
)
def test_the_types_of_a_cluster_say_what_it_may_get(limit, gpus, cpus):
    config = cluster_of(limit)
    assert (ray_cluster.most("GPU", config), ray_cluster.most("CPU", config)) == (gpus, cpus)
    assert ray_cluster.most("GPU", {}) == 0


def test_the_heads_own_configuration_is_read(tmp_path, monkeypatch):
    """As `ray up` leaves it on the head; a Ray of this machine alone does not grow, whatever lies here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", lambda: {"CPU": 2.0})
    assert ray_cluster.capacity("auto") == {"CPU": 2, "GPU": 0}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(cluster_of(2)))
    assert ray_cluster.capacity("auto") == {"CPU": 192, "GPU": 9}
    assert ray_cluster.capacity(None) == {"CPU": 2, "GPU": 0}


def test_kuberays_groups_say_so_too(monkeypatch, tmp_path):
    """cluster/kuberay.yaml as Ray's own autoscaler reads it, from a pod whose API answers with its RayCluster."""
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    job = list(yaml.safe_load_all(Path("cluster/kuberay.yaml").read_text()))[1]
    cluster = {"metadata": {"name": "spd-ray-x", "namespace": "mine"}, "spec": job["spec"]["rayClusterSpec"]}
    asked = []

    def get(client, path):
        asked.append((client._namespace, path))
        return cluster

    monkeypatch.setattr(KubernetesHttpApiClient, "get", get)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_CLUSTER_NAME", "spd-ray-x")
    (tmp_path / "namespace").write_text("mine")
    monkeypatch.setattr(ray_cluster, "KUBERAY_NAMESPACE", tmp_path / "namespace")
    config = ray_cluster.autoscaler_config()
    assert asked == [("mine", "rayclusters/spd-ray-x")]
    assert (ray_cluster.most("GPU", config), ray_cluster.most("CPU", config)) == (4, 16)
