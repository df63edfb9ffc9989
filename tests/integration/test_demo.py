"""The embedded default from nothing: pretraining, teacher, one trial of the demo's space, analysis."""

import subprocess
import sys
from pathlib import Path

import pytest

from spd_ray.records.trials import read_trials

DEMO = Path(__file__).parents[2] / "search_spaces" / "demo.yaml"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    storage = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "spd_ray.sweep", "--space", DEMO, "--storage", storage, "--trials", "1"]
    done = subprocess.run([*command, "--set", "study.seeds=[0]"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return storage / "demo"


def test_the_paradigm_holds(demo):
    (trial,) = read_trials(demo)
    assert trial.majority_score == 0.5
    assert trial.teacher_score > 0.85
    assert 0.75 < trial.best_score <= trial.teacher_score + 0.02
    assert trial.train_score > trial.best_score
    assert trial.achieved_sparsity == pytest.approx(0.9, abs=1e-4)
    assert (trial.layers, trial.prunable_parameters) == (4, 196_608)


def test_the_figures_are_drawn_from_it(demo):
    done = subprocess.run([sys.executable, "-m", "analysis", "--sweep", demo], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (demo / "report").iterdir()} >= {"fig04.png", "curves.png", "index.html"}
