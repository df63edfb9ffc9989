"""What an installed package adds to the tables: used like the rows that are here, and refused in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spd_ray.base.user_code import installed_rows
from spd_ray.config.load import load_spec
from spd_ray.config.method import OBJECTIVE_KEYS, TERMS, ObjectiveConfig
from spd_ray.equations.criterion_table import CRITERIA, Criterion
from spd_ray.equations.loss_terms import LOSS_TERMS, LossTerm
from tests.own_package import DISTANCE, LATEST, install_package
from tests.spaces import TASK

ROOT = Path(__file__).parents[1]
POINT = "distance = farther:DISTANCE"


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_nothing_is_added_here() -> None:
    assert TERMS == LOSS_TERMS
    assert {*TERMS, *OBJECTIVE_KEYS} == set(ObjectiveConfig.model_fields)


USED = """
import torch
from spd_ray.config.load import load_spec
from spd_ray.model.attention import LayerOutputs, ModelOutputs
from spd_ray.model.objective import Needs, terms, weighted_sum
from spd_ray.records.provenance import packages_used
from spd_ray.records.schema import STEP_SCHEMA

off = [f"method.objective.{name}=0" for name in ("hidden", "attention", "prediction")]
spec = load_spec("x.yaml", [*off, "method.objective.distance=2", "method.grafting=none"])
def model(level):
    layer = LayerOutputs(torch.full((1, 2, 3), level), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3))
    return ModelOutputs(torch.zeros(1, 2), layer.hidden, (layer, layer))
objective = spec.method.objective
found = terms(objective, model(0.0), model(1.5), torch.tensor([0]), torch.tensor([[True, False]]))
print(objective.weights(), {name: value.item() for name, value in found.items()}, weighted_sum(objective, found).item())
print(Needs.of(spec.method, 2).hidden, STEP_SCHEMA.names.count("loss_distance"), packages_used(spec))
plain = load_spec("x.yaml")
print("distance" in plain.to_yaml(), "distance" in spec.to_yaml(), plain.space_hash())
searched = load_spec("x.yaml", ["search.objective.distance={low: 0, high: 1}"])
print(searched.trial_config({"objective.distance": 0.5}, 0).method.objective.distance, packages_used(searched))
"""


def test_a_loss_term_is_a_key_a_column_and_a_part_of_the_sum(tmp_path: Path) -> None:
    install_package(tmp_path, DISTANCE, loss_terms=POINT)
    (tmp_path / "x.yaml").write_text(TASK)
    done = python(tmp_path, "-c", USED)
    assert done.returncode == 0, done.stderr
    weighed, read, traces, searched = done.stdout.splitlines()
    assert weighed == "{'distance': 2.0} {'distance': 3.0} 6.0"  # |0 - 1.5| in each of two layers
    assert read == "(0, 1) 1 ['farther']"
    assert searched == "0.5 ['farther']"
    without = load_spec(tmp_path / "x.yaml").space_hash()  # a package that is not used changes no sweep
    assert traces == f"False True {without}"


REFUSED = {
    "no such thing": (DISTANCE, "distance = farther:NEAR", "farther:NEAR cannot be loaded (AttributeError: "),
    "no such module": (DISTANCE, "distance = farthest:NEAR", "farthest:NEAR cannot be loaded (ModuleNotFoundError: "),
    "one that raises": ("raise OSError('no\\nway')", POINT, "farther:DISTANCE cannot be loaded (OSError: no way)"),
    "no row": ("DISTANCE = 3", POINT, "farther:DISTANCE is no LossTerm"),
    "no function": (DISTANCE.replace("(distance,", "('distance',"), POINT, "has the function 'distance', where a"),
    "mixed": (DISTANCE.replace('"hidden"', '"mixed"'), POINT, "reads 'mixed'; it must be one of labels, logits, "),
    "counted": (DISTANCE.replace('"tokens"', '"words"'), POINT, "is counted by 'words'; it must be one of examples, "),
    "weight": (DISTANCE.replace("0.0", "1.0"), POINT, "must have the weight 0.0, for a space asks for it"),
    "a name of ours": (DISTANCE, "hidden = farther:DISTANCE", "farther:DISTANCE has a name that is taken"),
    "a key of ours": (DISTANCE, "layers = farther:DISTANCE", "farther:DISTANCE has a name that is taken"),
    "no name": (DISTANCE, "My-Term = farther:DISTANCE", "must have a name of small letters, digits and _"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_row_is_told_in_one_line_and_left_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, point, said = REFUSED[name]
    install_package(tmp_path, code, loss_terms=point)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "farther", raising=False)
    taken = (*LOSS_TERMS, *OBJECTIVE_KEYS)
    rows, (line,) = installed_rows("spd_ray.loss_terms", LossTerm, taken, LossTerm.wrong)
    assert rows == {}
    assert line.startswith(f"package farther: the entry point spd_ray.loss_terms: {point} ")
    assert said in " ".join(line.split())


PRUNED = """
import torch
from spd_ray.config.load import load_spec
from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import EngineConfig
from spd_ray.model.linear import MaskedLinear
from spd_ray.records.provenance import packages_used
from spd_ray.engine import engine
from spd_ray.training.pruning import Pruner

spec = load_spec("x.yaml", ["method.pruning=latest", "method.target_sparsity=0.5", "method.pruning_events=1"])
print(spec.method.criterion_row.package, spec.method.floats, packages_used(spec))
model = torch.nn.Sequential(MaskedLinear.of(torch.nn.Linear(2, 1, bias=False)))
linear = model[0]
linear.weight.data = torch.tensor([[1.0, 2.0]])
trained = engine.make_engine(model, [linear.weight], EngineConfig(), batch_size=1, clip_norm=1.0, weight_decay=0.0)
timeline = Timeline.of(spec.method, 64)
pruner = Pruner(timeline, trained, [model], {})
pruner.begin_step(0, 1.0)
engine.apply_part(trained, trained(torch.tensor([[3.0, 1.0]])).sum())
pruner.end_step((True,))
pruner.event(timeline.pruning_end_step, lambda count: iter(()))
print(linear.statistics["latest"].tolist(), linear.mask.tolist())
"""


def test_a_criterion_prunes_as_one_of_ours(tmp_path: Path) -> None:
    install_package(tmp_path, LATEST, criteria="latest = farther:LATEST")
    (tmp_path / "x.yaml").write_text(TASK)
    done = python(tmp_path, "-c", PRUNED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["farther 1 ['farther']", "[[3.0, 2.0]] [[True, False]]"]  # |w g|


REFUSED_CRITERIA = {
    "reads": (LATEST.replace('"steps"', '"epochs"'), "reads 'epochs'; it must be one of weights, steps, events"),
    "no update": (LATEST.replace("update=latest_update, ", ""), "reads steps and needs an update, a function"),
    "no function": (
        LATEST.replace("Criterion(latest_score", "Criterion('latest'"),
        "has the function 'latest', where a",
    ),
}


@pytest.mark.parametrize("name", REFUSED_CRITERIA)
def test_a_broken_criterion_is_told_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = REFUSED_CRITERIA[name]
    install_package(tmp_path, code, criteria="latest = farther:LATEST")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "farther", raising=False)
    rows, (line,) = installed_rows("spd_ray.criteria", Criterion, CRITERIA, Criterion.wrong)
    assert rows == {}
    assert said in line


def test_the_command_says_it_and_others_go_on(tmp_path: Path) -> None:
    install_package(tmp_path, "raise OSError('no\\nway')", loss_terms=POINT)
    (tmp_path / "x.yaml").write_text(TASK)
    done = python(tmp_path, "-m", "spd_ray.sweep", "--space", "x.yaml")
    said = "error: package farther: the entry point spd_ray.loss_terms: distance = farther:DISTANCE cannot be loaded "
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said}(OSError: no way)\n")
    assert python(tmp_path, "-c", "import spd_ray.training.deployment").returncode == 0
