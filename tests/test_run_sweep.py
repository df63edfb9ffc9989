"""The notebook's `run_sweep`: what it asks for and what it hands back. A real one is in integration/test_sweep.py."""

import inspect
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import spd_ray
from spd_ray import UserError, run_sweep, sweep
from spd_ray.base.installation import own_command
from spd_ray.config.load import load_spec
from spd_ray.records.provenance import write_sweep_yaml
from spd_ray.records.schema import TRIAL_SCHEMA
from spd_ray.records.trials import write_trials
from tests.hand_made_sweep import trial

SPACE = {"name": "mine", "task": {"name": "mini_entailment"}, "search": {"p0": {"low": 0.2, "high": 0.8}}}

TRIAL = trial(0, checkpoint="checkpoints/0-s0")


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What the driver is called with, in the place of a driver that writes one trial and finds it best."""
    calls = []

    def train_trials(spec, storage, command, address, console):
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        calls.append(SimpleNamespace(spec=spec, storage=storage, command=command, address=address, gpus=gpus))
        write_sweep_yaml(spec, storage.folder, command, [], {})
        write_trials(storage.folder, [TRIAL])
        return TRIAL

    for module, parts in {
        "run": {"train_trials": train_trials},
        "first_checks": {"check_first": lambda *_: None},
    }.items():
        monkeypatch.setitem(sys.modules, f"spd_ray.driver.{module}", SimpleNamespace(**parts))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({key: SPACE[key] for key in ("task", "search")}))
    return calls


def test_a_file_and_keywords_ask_for_what_the_command_asks_for(started, tmp_path):
    result = run_sweep("mine.yaml", trials=4, name="other", set={"method.p0": 0.6, "study.seeds": (3, 4)})
    (call,) = started
    words = "--space mine.yaml --trials 4 --name other --set method.p0=0.6 --set 'study.seeds=[3, 4]' --storage runs"
    assert call.command == f"python -m spd_ray.sweep {words}"
    assert call.spec == load_spec(
        tmp_path / "mine.yaml", ["study.trials=4", "name=other", "method.p0=0.6", "study.seeds=[3, 4]"]
    )
    assert (result.folder, result.interrupted, result.best) == (tmp_path / "runs/other", False, TRIAL)
    assert result.checkpoint == tmp_path / "runs/other" / TRIAL.checkpoint
    assert result.trials.schema == TRIAL_SCHEMA
    assert result.trials["trial_id"].to_pylist() == [TRIAL.trial_id]
    assert repr(result) == f"SweepResult('{tmp_path}/runs/other', 1 trials, best: 0-s0 with accuracy 0.8000)"


def test_a_mapping_is_swept_and_its_folder_holds_the_space_to_go_on_with(started, tmp_path):
    run_sweep(SPACE, trials=np.int64(2), storage=tmp_path / "kept")
    (call,) = started
    file = tmp_path / "kept/mine/space.yaml"
    assert call.command == f"python -m spd_ray.sweep --space {file} --storage {tmp_path}/kept"
    assert load_spec(file) == call.spec
    assert call.spec.study.trials == 2
    assert sweep.main([*call.command.split()[3:], "--resume"]) == 0
    assert started[1].spec == call.spec


@pytest.mark.parametrize("visible", [None, "2,3"])
def test_the_driver_sees_no_gpu_and_the_notebook_sees_them_again(started, monkeypatch, visible):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    run_sweep("mine.yaml")
    assert started[0].gpus == ""
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


@pytest.mark.parametrize(
    ("space", "keywords", "line"),
    [
        ("none.yaml", {}, "none.yaml: no such file"),
        ("mine.yaml", {"set": {"method.p9": 1}}, "--set method.p9=1: unknown key method.p9; it must be one of"),
        ("mine.yaml", {"set": {"method.p0": {1, 2}}}, "{1, 2}: set is no value of YAML"),
        ("mine.yaml", {"resume": True}, "--resume: .* holds no sweep yet"),
        ("mine.yaml", {"address": "head"}, "--address head: HOST:PORT"),
        ({"task": SPACE["task"]}, {}, "space: name is missing"),
        ({**SPACE, "studdy": {}}, {}, "space: unknown key studdy; did you mean study"),
        ({}, {}, "space: .* is missing"),
    ],
)
def test_what_cannot_be_is_a_user_error(started, space, keywords, line):
    with pytest.raises(UserError, match=line):
        run_sweep(space, **keywords)
    assert started == []


def test_the_command_goes_on_by_name_alone_with_what_was_set(started):
    run_sweep("mine.yaml", set={"method.p0": 0.6}, trials=3)
    assert sweep.main(["--name", "mine", "--resume"]) == 0
    first, again = (call.spec for call in started)
    assert again.identity() == first.identity()
    assert again.study.trials == 3


def test_a_second_sweep_of_a_name_wants_to_be_told_which(started):
    run_sweep("mine.yaml")
    with pytest.raises(UserError, match="add --resume, --replace or another --name"):
        run_sweep("mine.yaml")
    assert run_sweep("mine.yaml", resume=True).trials.num_rows == 1


def test_a_sweep_that_was_stopped_says_how_to_go_on(started, monkeypatch, capsys):
    def stop(spec, storage, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["spd_ray.driver.run"], "train_trials", stop)
    result = run_sweep("mine.yaml")
    assert (result.interrupted, result.best, result.checkpoint, result.trials.num_rows) == (True, None, None, 0)
    assert result.trials.schema == TRIAL_SCHEMA
    assert capsys.readouterr().out.endswith(
        f"stopped; go on with: {own_command('spd_ray.sweep', '--space', 'mine.yaml', '--storage', 'runs')}\n"
    )
    assert sweep.main(["--space", "mine.yaml"]) == 130


def test_ray_that_runs_already_is_not_taken_over(started, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    with pytest.raises(UserError, match=r"Ray runs in this process already: call ray\.shutdown"):
        run_sweep("mine.yaml")


def test_every_argument_is_documented_and_every_name_is_there():
    text = str(run_sweep.__doc__)
    assert all(f"{name}: " in text for name in inspect.signature(run_sweep).parameters)
    assert all(hasattr(spd_ray, name) for name in spd_ray.__all__)
    assert not hasattr(spd_ray, "sweeps")


def test_a_space_is_read_without_heavy_packages():
    code = """import sys, spd_ray.sweep, spd_ray.driver.start, spd_ray.config.load
print({"ray", "torch", "transformers", "mlflow", "optuna", "pandas", "scipy"} & set(sys.modules))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
