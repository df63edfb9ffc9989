"""Sweeps over methods, down a ladder of sparsities, and on a holdout: by the real command."""

import json
import os

import pytest
import yaml

from spd_ray.records.trials import read_trials
from spd_ray.training.checkpoint import count_zeros, load_checkpoint
from tests.integration.test_sweep import sweep_of  # noqa: F401
from tests.own_package import DISTANCE, install_package
from tests.sweeps import SPACE, steps_of

TRIAL = {key: value for key, value in SPACE["method"].items() if key != "stage23_lr"}


@pytest.fixture(scope="module")
def compared(sweep_of):  # noqa: F811
    search = {"method": {"choices": ["spd", "theseus", "tickets", "pkd"]}}
    done, folder = sweep_of(
        "compared", method=TRIAL, search=search, study={"sampler": "grid", "trials": 4, "seeds": [0]}
    )
    assert done.returncode == 0, done.stderr
    return done, folder


def test_methods_land_in_the_same_records_with_the_same_accounting(compared):
    done, folder = compared
    trials = {trial.method: trial for trial in read_trials(folder)}
    assert list(trials) == ["spd", "theseus", "tickets", "pkd"]
    assert {trial.status for trial in trials.values()} == {"finished"}
    assert {trial.t3 for trial in trials.values()} == {48}
    # an encoder layer of the tiny BERT: 4 x 32 x 32 + 2 x 32 x 64 = 8,192 weights, 352 biases and LayerNorm
    assert {trial.encoder_parameters for trial in trials.values()} == {2 * 8544}
    remaining = {name: trial.remaining_encoder_parameters for name, trial in trials.items()}
    assert remaining == {"spd": 8192 + 704, "theseus": 8544, "tickets": 8192 + 704, "pkd": 8544}
    assert {trial.parameters - trial.remaining_parameters for trial in trials.values()} == {8192, 8544}
    assert {name: (t.grafting, t.pruning, t.p0, t.target_sparsity) for name, t in trials.items()} == {
        "spd": ("three_stage", "magnitude", 0.6, 0.5),
        "theseus": ("linear", "none", 0.5, 0.0),
        "tickets": ("none", "lottery", 1.0, 0.5),
        "pkd": ("none", "none", 1.0, 0.0),
    }
    assert all(trial.device_seconds > 0 for trial in trials.values())
    assert "method tickets" not in done.stdout  # only a dry run explains


def test_the_resolved_space_keeps_what_each_method_composes(compared):
    _, folder = compared
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())["spec"]
    assert "grafting" not in spec["method"]
    config = json.loads(next(t for t in read_trials(folder) if t.method == "theseus").config)
    assert config["method"]["student"]["depth"] == 0.5


def test_a_ladder_keeps_and_scores_a_student_at_each_level(sweep_of):  # noqa: F811
    trial = {**TRIAL, "target_sparsity": 0.9, "ladder": [0.3, 0.6], "pruning_events": 6, "total_epochs": 8}
    done, folder = sweep_of(
        "ladder", method=trial, search={}, study={"sampler": "grid", "trials": 1, "seeds": [0]}, checkpoints={"keep": 1}
    )
    assert done.returncode == 0, done.stderr
    (record,) = read_trials(folder)
    levels = json.loads(record.ladder)
    assert [level["sparsity"] for level in levels] == [0.3, 0.6]
    for level in levels:
        layers = count_zeros(load_checkpoint(folder / level["checkpoint"]))
        assert sum(one.zeros for one in layers) / sum(one.numel for one in layers) == pytest.approx(
            level["sparsity"], abs=1e-3
        )
        scored = [row for row in steps_of(folder) if row["split"] == "dev" and row["step"] == level["step"]]
        assert level["score"] in [row["value"] for row in scored if row["metric"] == "accuracy"]
    assert record.achieved_sparsity == pytest.approx(0.9, abs=1e-3)


def test_a_holdout_is_what_everything_is_chosen_on_and_dev_is_scored_once(sweep_of):  # noqa: F811
    task = {"name": "sst2", "path": str(sweep_of.task), "max_length": 32}
    task |= {"selection": "holdout", "holdout_fraction": 0.25}
    done, folder = sweep_of("holdout", task=task, search={}, study={"sampler": "grid", "trials": 1, "seeds": [0]})
    assert done.returncode == 0, done.stderr
    assert {row["split"] for row in steps_of(folder)} == {"batch", "train", "holdout"}
    (record,) = read_trials(folder)
    assert record.selection == "holdout"
    assert record.best_score * 15 == pytest.approx(round(record.best_score * 15))  # of 15 held out
    assert record.dev_score * 30 == pytest.approx(round(record.dev_score * 30))
    assert "holdout accuracy" in done.stdout
    assert "(its only use)" in done.stdout


def test_a_method_and_a_loss_term_of_ones_own_train_in_a_worker(
    sweep_of,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    install_package(tmp_path, DISTANCE, loss_terms="distance = farther:DISTANCE")
    monkeypatch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{tmp_path}")
    mine = tmp_path / "mine.yaml"
    words = {"source": "ourselves", "parts": {"objective": "distances"}, "leaves_out": "nothing", "tunes": []}
    objective = {"hidden": 0, "attention": 0, "prediction": 1, "distance": 2}
    mine.write_text(yaml.safe_dump({**words, "method": {"objective": objective}, "search": {}}))
    short = {**TRIAL, "total_epochs": 3, "stage1_epochs": 1}
    done, folder = sweep_of("own", "--method", str(mine), method=short, search={}, study={"seeds": [0]})
    assert done.returncode == 0, done.stderr
    (trial,) = read_trials(folder)
    assert (trial.method, trial.status) == ("mine", "finished")
    steps = [row for row in steps_of(folder) if row["split"] == "batch"]
    assert len(steps) == 24
    for row in steps:
        assert row["value"] == pytest.approx(row["loss_prediction"] + 2 * row["loss_distance"], rel=1e-5)
    assert yaml.safe_load((folder / "sweep.yaml").read_text())["versions"]["farther"] == "1.5"
