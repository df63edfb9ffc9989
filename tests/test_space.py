"""Search spaces: what they say, what is refused, and that draws depend on the study's history alone."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from spd_ray.base.errors import UserError
from spd_ray.config.dimensions import tidy
from spd_ray.config.load import load_spec
from spd_ray.config.method import MethodConfig
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.timeline import Timeline
from spd_ray.study import study as study_module
from spd_ray.study.study import Draws, create_study, draw_once

TASK = "task: {name: mini_entailment}\n"
SPACES = Path(__file__).parents[1] / "search_spaces"


def load(folder: Path, text: str, *overrides: str) -> SweepSpec:
    file = folder / "x.yaml"
    file.write_text(text)
    return load_spec(file, overrides)


def run(study: optuna.Study, spec: SweepSpec, count: int) -> list[dict[str, Any]]:
    """Ask and tell `count` trials, all with one score."""
    points = []
    for _ in range(count):
        number, values = Draws(study, spec).ask()
        study.tell(number, 0.5)
        points.append(values)
    return points


def point_score(values: dict[str, Any]) -> float:
    return float(values["p0"]) - abs(float(values.get("stage1_epochs", 0)) - 20) / 100


# What a file says.


@pytest.mark.parametrize("file", sorted(SPACES.rglob("*.yaml")), ids=lambda file: file.name)
def test_every_space_that_is_shipped_loads_and_reads_back(file: Path, tmp_path: Path) -> None:
    spec = load_spec(file)
    assert spec.name == file.stem
    (tmp_path / "again.yaml").write_text(spec.to_yaml())
    assert load_spec(tmp_path / "again.yaml") == spec


def test_the_demo_starts_with_the_recipe_and_has_its_stage_lengths() -> None:
    spec = load_spec(SPACES / "demo.yaml")
    (recipe,) = spec.first_points()
    config = spec.trial_config(recipe, seed=1)
    assert config.method == spec.method
    assert config.seed == 1
    timeline = Timeline.of(config.method, train_examples=500)
    assert (timeline.steps_per_epoch, timeline.t1, timeline.t2, timeline.t3) == (32, 576, 896, 1472)


def test_rte_starts_with_the_two_settings_of_the_paper() -> None:
    first, second = load_spec(SPACES / "rte.yaml").first_points()
    assert first == {"stage1_epochs": 30, "p0": 0.6, "stage23_lr": 3e-5}
    assert second == {"stage1_epochs": 30, "p0": 0.8, "stage23_lr": 3.2e-4}


def test_a_number_may_be_written_as_3e_5_everywhere(tmp_path: Path) -> None:
    text = TASK + "method: {stage1_lr: 3e-5}\nsearch: {stage23_lr: {low: 1e-5, high: +1E-3, log: true}}\n"
    spec = load(tmp_path, text + "teacher: {learning_rates: [2e-5]}\n", "method.weight_decay=1e-2")
    assert (spec.method.stage1_lr, spec.method.weight_decay) == (3e-5, 0.01)
    assert (spec.search["stage23_lr"].low, spec.search["stage23_lr"].high) == (1e-5, 1e-3)
    assert spec.teacher.learning_rates == (2e-5,)


def test_defaults_overrides_and_name(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK)
    assert (spec.name, spec.retries, spec.early_stopping, spec.study.seeds) == ("x", 2, None, (0,))
    spec = load(
        tmp_path,
        TASK + "search: {p0: {low: 0.1, high: 1}, dropout: {choices: [0, 0.1]}}\nwarm_start: [{p0: 0.2}]\n",
        "name=y",
        "search.p0.high=0.5",
        "warm_start=[]",
        "search.objective.temperature={low: 1, high: 4}",
        "early_stopping.rungs=[0.25]",
        "task.path=some/folder",
    )
    assert spec.name == "y"
    assert spec.search["p0"].high == 0.5
    assert spec.warm_start == ()
    assert spec.trial_config({"objective.temperature": 2.5}, 0).method.objective.temperature == 2.5
    assert spec.early_stopping is not None
    assert spec.early_stopping.rungs == (0.25,)
    assert spec.task.path == str(Path("some/folder").absolute())


def test_the_hash_is_of_what_decides_results(tmp_path: Path) -> None:
    text = TASK + "search: {p0: {low: 0.1, high: 1}, dropout: {choices: [0, 0.1]}}\n"
    first = load(tmp_path, text).space_hash()
    same = [
        "name=y",
        "resources.cpus_per_worker=2",
        "retries=0",
        "study.trials=99",
        "tracking.experiment=e",
        "checkpoints.keep=9",
    ]
    for setting in same:
        assert load(tmp_path, text, setting).space_hash() == first, setting
    reordered = TASK + "search: {dropout: {choices: [0, 0.1]}, p0: {high: 1, low: 0.1}}\n"
    assert load(tmp_path, reordered).space_hash() == first
    other = ["method.clip_norm=2", "search.p0.high=0.9", "study.seeds=[0, 1]", "study.seed=1", "engine.precision=bf16"]
    other += ["study.sampler=random", "task.train_examples=10", "early_stopping.rungs=[0.5]", "warm_start=[{}]"]
    for setting in other:
        setting = setting.replace("[{}]", "[{dropout: 0}]")
        assert load(tmp_path, text, setting).space_hash() != first, setting


# What is refused: the text after the task's line, the overrides, the whole message.

SEARCH = "search:\n  "
REFUSED = {
    "metod: {}": "x.yaml, line 2: unknown key metod; did you mean method?",
    "p0: 1": "x.yaml, line 2: unknown key p0; did you mean method.p0?",
    "method:\n  batchsize: 3": "x.yaml, line 3: unknown key method.batchsize; did you mean batch_size?",
    "method:\n  dropout: 0\n  p0: 1.5": "x.yaml, line 4: method.p0 = 1.5: must be less than or equal to 1",
    "method:\n  p0: true": "x.yaml, line 3: method.p0 = true: must be a number",
    "method:\n  p0: .nan": "x.yaml, line 3: method.p0: .nan is not a finite number",
    "method:\n  stage1_lr: 1e999": "x.yaml, line 3: method.stage1_lr: 1e999 is not a finite number",
    "method:\n  batch_size: 16.5": "x.yaml, line 3: method.batch_size = 16.5: must be a whole number",
    "method:\n  total_epochs: 5": "x.yaml, line 3: method.total_epochs = 5: stage1_epochs + stage2_epochs <= "
    "total_epochs must hold, but got 30 + 10 > 5",
    "method:\n  pruning_end: 2": "x.yaml, line 3: method.pruning_end = 2: pruning must end at or before t2: "
    "pruning_end <= 1.33333 (stage1_epochs + stage2_epochs over stage1_epochs) must hold, but got 2",
    "method:\n  p0: 0.1\n  p0: 0.2": "x.yaml, line 4: method.p0: given twice, first in line 3",
    "method:\n\tp0: 0.1": "x.yaml, line 3: not YAML: a tab where YAML wants spaces",
    "method: {p0: 0.1": "x.yaml, line 3: not YAML: expected ',' or '}', but got '<stream end>'",
    "1: 2": "x.yaml, line 2: the key 1 is not text; put it in quotes",
    "method: !!python/name:os.system x": "x.yaml, line 2: method: the YAML tag tag:yaml.org,2002:python/name:os.system "
    "has no use here",
    "method: &a {objective: *a}": "x.yaml: nested too deeply, or an alias contains itself",
    "---\na: 1": "x.yaml, line 2: not YAML: but found another document",
    SEARCH
    + "p0: {low: 0.5, high: 0.2}": "x.yaml, line 3: search.p0.low = 0.5: low <= high must hold, but got 0.5 > 0.2",
    SEARCH + "p0: {low: 0.5, high: 1.2}": "x.yaml, line 3: search.p0.high = 1.2: must be less than or equal to 1",
    SEARCH + "p0: {low: 0, high: 1, log: true}": "x.yaml, line 3: search.p0.low = 0: low must be above 0 with log, "
    "but got 0",
    SEARCH + "p0: {low: 0.1, high: 1, step: 0.2}": "x.yaml, line 3: search.p0.low = 0.1: steps of 0.2 from low 0.1 do "
    "not reach high 1, the last is 0.9",
    SEARCH + "p0: {low: 0.1, hihg: 1}": "x.yaml, line 3: unknown key search.p0.hihg; did you mean high?",
    SEARCH + "p0: {low: 0.1}": "x.yaml, line 3: search.p0.high is missing",
    SEARCH + "p0: 0.3": "x.yaml, line 3: search.p0 = 0.3: must be a mapping",
    SEARCH + "p0: {choices: []}": "x.yaml, line 3: search.p0.choices = []: must have at least one item",
    SEARCH + "p0: {choices: [0.1, 2]}": "x.yaml, line 3: search.p0.choices[1] = 2: must be less than or equal to 1",
    SEARCH + "p0: {choices: [0.1, 0.1]}": "x.yaml, line 3: search.p0.choices = [0.1, 0.1]: choices must differ, "
    "but got 0.1 twice",
    SEARCH + "p00: {low: 0, high: 1}": 'x.yaml, line 3: search.p00 = {"low": 0, "high": 1}: unknown dimension \'p00\'; '
    "did you mean p0?",
    SEARCH + "batch_size: {low: 8, high: 32, step: 0.5}": "x.yaml, line 3: search.batch_size.step = 0.5: must be a "
    "whole number",
    SEARCH + "pruning_schedule: {choices: [cubic, square]}": "x.yaml, line 3: search.pruning_schedule.choices[1] = "
    "\"square\": must be 'cubic', 'linear', 'geometric' or 'one_shot'",
    SEARCH + "stage1_epochs: {low: 51, high: 55}": 'x.yaml, line 3: search.stage1_epochs = {"low": 51, "high": 55}: no '
    "point of the space is possible, of 300 drawn at random; the last one: stage1_epochs + stage2_epochs <= "
    "total_epochs must hold, but got 53.939 + 10 > 60",
    SEARCH + "stage2_epochs: {choices: [1, 2]}\n  pruning_end: {choices: [1.3, 1.5]}\n"
    "  stage1_epochs: {choices: [20, 40]}": 'x.yaml, line 4: search.pruning_end = {"choices": [1.3, 1.5]}: no point of '
    "the space is possible, of 300 drawn at random; the last one: pruning must end at or before t2: pruning_end <= "
    "1.025 (stage1_epochs + stage2_epochs over stage1_epochs) must hold, but got 1.3",
    "trial: {p0: 0.5}": "x.yaml, line 2: trial is called method now: write method: in its place",
    "method: theseus": 'x.yaml, line 2: method = "theseus": method is a section now: write method: {name: theseus}',
    SEARCH + "p0: {low: 0, high: 0.5}\nwarm_start:\n  - {}": "x.yaml, line 5: warm_start[0] = {}: p0 is 0.6 (from "
    "method), outside search.p0 (0 to 0.5)",
    SEARCH + "p0: {low: 0, high: 0.5}\nwarm_start: [{p0: 0.7}]": "x.yaml, line 4: warm_start[0].p0 = 0.7: outside "
    "search.p0 (0 to 0.5)",
    SEARCH + "p0: {low: 0, high: 1, step: 0.5}\nwarm_start: [{p0: 0.7}]": "x.yaml, line 4: warm_start[0].p0 = 0.7: "
    "outside search.p0 (0 to 1 in steps of 0.5)",
    SEARCH + "p0: {low: 0, high: 1}\nwarm_start: [{dropout: 0.7}]": "x.yaml, line 4: warm_start[0].dropout = 0.7: "
    "not a dimension of search",
    SEARCH + "stage1_epochs: {low: 9, high: 40}\n  stage2_epochs: {low: 9, high: 40}\nwarm_start:\n"
    "- {stage1_epochs: 40, stage2_epochs: 30}": "x.yaml, line 6: warm_start[0] = "
    '{"stage1_epochs": 40, "stage2_epochs": 30}: stage1_epochs + stage2_epochs <= total_epochs must hold, but got '
    "40 + 30 > 60",
    "study: {sampler: grid}\n" + SEARCH + "p0: {low: 0, high: 1}": 'x.yaml, line 4: search.p0 = {"low": 0, "high": 1}: '
    "a grid needs a step or choices",
    "study: {sampler: bayes}": "x.yaml, line 2: study.sampler = \"bayes\": must be 'tpe', 'random' or 'grid'",
    "study: {trials: 0}": "x.yaml, line 2: study.trials = 0: must be greater than or equal to 1",
    "study: {seeds: [0, 0]}": "x.yaml, line 2: study.seeds = [0, 0]: seeds must differ",
    "resources: {gpus_per_worker: 1.5}": "x.yaml, line 2: resources.gpus_per_worker = 1.5: above 1, GPUs must be a "
    "whole number",
    "early_stopping: {rungs: [0.8, 0.5]}": "x.yaml, line 2: early_stopping.rungs = [0.8, 0.5]: rungs must rise",
    "early_stopping: {rungs: [1.0]}": "x.yaml, line 2: early_stopping.rungs[0] = 1.0: must be less than 1",
    "name: a b": 'x.yaml, line 2: name = "a b": must be letters, digits, - and _',
    SEARCH + "objective.hidden: {low: 0, high: 1}\n"
    "method: {objective: {attention: 0, prediction: 0, hidden: 0}}": "x.yaml, line 4: "
    "method.objective.prediction = 0: at least one of task, prediction, embedding, hidden, attention, first_token, "
    "cosine, attention_relation, value_relation and consistency must be above 0",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_broken_space_is_told_in_one_line(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load(Path(), TASK + text + "\n")
    assert str(caught.value) == REFUSED[text]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method.p0", "--set method.p0: not of the form key=value"),
        ("=3", "--set =3: not of the form key=value"),
        ("method.p0=7", "--set method.p0=7: must be less than or equal to 1"),
        ("method.p9=7", "--set method.p9=7: unknown key method.p9; it must be one of name, student, "),
        ("p0=0.5", "--set p0=0.5: unknown key p0; did you mean method.p0?"),
        ("method=3", "--set method=...: method is a section; set one of its keys: name, "),
        (
            "method.objective={}",
            "--set method.objective=...: method.objective is a section; set one of its keys: task, ",
        ),
        (
            "method.total_epochs=6",
            "--set method.total_epochs=6: stage1_epochs + stage2_epochs <= total_epochs must hold",
        ),
        ("trial.p0=0.5", "--set trial.p0=...: trial is called method now: write --set method.p0=..."),
        ("method=theseus", "--set method=...: method is a section; set one of its keys: name, "),
        ("method.p0={", "--set method.p0={: not YAML: "),
        ("method.p0=", "--set method.p0=: must be a number"),
        ("method.p0=.inf", "--set method.p0=.inf: .inf is not a finite number"),
        ("search.p0.low=0.1", "--set search.p0.low=0.1: search.p0.high is missing"),
        (
            "early_stopping.rungs=[2]",
            "--set early_stopping.rungs=[2]: early_stopping.rungs[0] = 2: must be less than 1",
        ),
    ],
)
def test_a_broken_override_is_told_in_one_line(setting: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, TASK, setting)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = {
        b"": "x.yaml: the file is empty, where a mapping with the key task is needed",
        b"# nothing\n": "x.yaml: the file is empty, where a mapping with the key task is needed",
        b"\n- 1\n": "x.yaml, line 2: [1], where a mapping with the key task is needed",
        b"model: {}\n": "x.yaml, line 1: task is missing",
        b"task: {}\n": "x.yaml, line 1: task.name is missing",
        b"\xff\xfe\xff": "x.yaml: not YAML: unacceptable character",
    }
    for content, message in expected.items():
        Path("x.yaml").write_bytes(content)
        with pytest.raises(UserError) as caught:
            load_spec("x.yaml")
        assert str(caught.value).startswith(message)
    with pytest.raises(UserError, match=r"^none\.yaml: no such file$"):
        load_spec("none.yaml")
    with pytest.raises(UserError, match=r"^\.: a folder, where a YAML file is needed$"):
        load_spec(".")


# The study.

CONDITIONAL = """
method: {total_epochs: 60, stage1_epochs: 30, stage2_epochs: 10}
search:
  total_epochs: {low: 20, high: 60}
  stage1_epochs: {low: 5, high: 50, step: 5}
  stage2_epochs: {choices: [4, 8, 30, 15]}
  pruning_end: {low: 0.5, high: 1.5}
"""


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_drawn_stage_lengths_are_always_possible(sampler: str, tmp_path: Path) -> None:
    spec = load(tmp_path, TASK + CONDITIONAL, f"study.sampler={sampler}")
    study = create_study(spec, tmp_path / "study.journal")
    draws = Draws(study, spec)
    redrawn = 0
    for _ in range(40):
        history = draws._look()
        first = draw_once(spec, draws.distributions, history, draws.count, 0)
        number, values = draws.ask()
        redrawn += first != values
        spec.trial_config(values, seed=0)  # raises if impossible
        study.tell(number, float(values["pruning_end"]))
    assert redrawn > 0


ENDS = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(total=ENDS, stage1=ENDS, stage2=ENDS, prune=ENDS, stepped=st.booleans(), seed=st.integers(0, 99))
def test_a_space_is_refused_or_every_draw_is_possible(
    total: list[int], stage1: list[int], stage2: list[int], prune: list[int], stepped: bool, seed: int, tmp_path: Path
) -> None:
    ends = {"total_epochs": total, "stage1_epochs": stage1, "stage2_epochs": stage2, "pruning_end": prune}
    search = {
        name: {"low": low * 0.3, "high": low * 0.3 + (high - low) * 0.3} | ({"step": 0.3} if stepped else {})
        for name, (low, high) in ends.items()
    }
    text = yaml.safe_dump({"task": {"name": "rte"}, "search": search, "study": {"sampler": "random", "seed": seed}})
    try:
        spec = load(tmp_path, text)
    except UserError:
        return
    journal = tmp_path / "study.journal"
    journal.unlink(missing_ok=True)
    study = create_study(spec, journal)
    for _ in range(min(3, spec.total_configurations())):
        _, values = Draws(study, spec).ask()
        spec.trial_config(values, seed=0)
        for name, value in values.items():
            assert spec.search[name].contains(value) or value == pytest.approx(spec.search[name].low)


def test_warm_starts_come_first_and_the_rest_is_drawn(tmp_path: Path) -> None:
    text = (
        TASK + "search: {p0: {low: 0.1, high: 1}, dropout: {choices: [0, 0.1]}}\nwarm_start: [{dropout: 0}, {p0: 1}]\n"
    )
    spec = load(tmp_path, text)
    study = create_study(spec, tmp_path / "study.journal")
    points = run(study, spec, 4)
    assert points[:2] == [{"dropout": 0, "p0": 0.6}, {"dropout": 0.1, "p0": 1}]
    assert points[2] not in points[:2]
    assert [trial.params for trial in study.get_trials()] == points


def test_a_grid_is_run_in_order_without_impossible_points_and_no_further(tmp_path: Path) -> None:
    text = TASK + "method: {total_epochs: 40}\nsearch:\n  p0: {low: 0.2, high: 0.6, step: 0.2}\n"
    text += "  stage1_epochs: {choices: [30, 10]}\n  stage2_epochs: {choices: [5, 20]}\n"
    spec = load(tmp_path, text + "study: {sampler: grid, trials: 100}\n")
    assert spec.total_configurations() == 9
    assert load(tmp_path, text + "study: {sampler: grid, trials: 4}\n").total_configurations() == 4
    expected = [
        {"stage1_epochs": stage1, "stage2_epochs": stage2, "p0": p0}
        for p0, stage1, stage2 in itertools.product((0.2, 0.4, 0.6), (30, 10), (5, 20))
        if stage1 + stage2 <= 40
    ]
    assert run(create_study(spec, tmp_path / "study.journal"), spec, 9) == expected


def test_a_grid_starts_with_its_warm_starts_and_repeats_none(tmp_path: Path) -> None:
    text = TASK + "search: {p0: {choices: [0.2, 0.6, 1.0]}}\nwarm_start: [{}]\nstudy: {sampler: grid, trials: 9}\n"
    assert load(tmp_path, text).first_points() == [{"p0": 0.6}, {"p0": 0.2}, {"p0": 1.0}]


def test_a_sweep_without_dimensions_is_one_configuration(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK)
    assert spec.total_configurations() == 1
    assert Draws(create_study(spec, tmp_path / "study.journal"), spec).ask() == (0, {})


MIXED = """
search:
  p0: {low: 0.1, high: 1.0, step: 0.1}
  stage1_epochs: {low: 10, high: 50}
  stage2_epochs: {low: 5, high: 20, step: 5}
  stage1_lr: {low: 1e-5, high: 1e-3, log: true}
  batch_size: {low: 8, high: 64, log: true}
  pruning_events: {low: 2, high: 12, step: 2}
  pruning_schedule: {choices: [cubic, linear]}
  objective.temperature: {low: 1, high: 4}
"""


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_resumed_study_draws_what_an_undisturbed_one_would_have(sampler: str, tmp_path: Path) -> None:
    spec = load(tmp_path, TASK + MIXED, f"study.sampler={sampler}", "study.seed=3")

    def asked(folder: str, reopen: bool) -> list[dict[str, Any]]:
        (tmp_path / folder).mkdir()
        where = tmp_path / folder / "study.journal"
        study, points = create_study(spec, where), []
        for number in range(10):
            if reopen:
                study = create_study(spec, where)
            given_number, values = Draws(study, spec).ask()
            assert given_number == number
            study.tell(number, point_score(values))
            points.append(values)
        return points

    points = asked("undisturbed", reopen=False)
    assert asked("resumed", reopen=True) == points
    assert len({repr(point) for point in points}) == 10
    assert all(type(point["batch_size"]) is int for point in points)


def copied_draw(study: optuna.Study, spec: SweepSpec, number: int) -> dict[str, Any]:
    """Trial `number`, drawn as plainly as can be: the whole history copied into a study, until a point is possible."""
    distributions = Draws(study, spec).distributions
    refused: list[optuna.trial.FrozenTrial] = []
    for attempt in range(study_module.REDRAWS):
        scratch = optuna.create_study(direction="maximize", sampler=study_module._sampler(spec, number, attempt))
        scratch.add_trials([*study.get_trials(), *refused])
        drawn = scratch.ask(fixed_distributions=distributions).params
        point = {name: tidy(value) if isinstance(value, float) else value for name, value in drawn.items()}
        if spec.is_possible(point):
            return point
        if number >= study_module.STARTUP_TRIALS:
            refused.append(study_module.refused_trial(point, distributions, number + 1 + attempt))
    raise AssertionError("no attempt was possible")


@pytest.mark.parametrize("space", [MIXED, CONDITIONAL], ids=["mixed", "conditional"])
def test_a_draw_is_that_of_the_whole_history_copied_into_a_study(space: str, tmp_path: Path) -> None:
    spec = load(tmp_path, TASK + space)
    study = create_study(spec, tmp_path / "study.journal")
    draws = Draws(study, spec)
    running: list[tuple[int, dict[str, Any]]] = []
    for number in range(40):
        expected = copied_draw(study, spec, number)
        running.append(draws.ask())
        assert running[-1] == (number, expected)
        if number % 3:  # several run at once, they end out of order, some without a score
            ended, values = running.pop(number % len(running))
            failed = TrialState.FAIL if ended % 7 == 3 else TrialState.PRUNED if ended % 5 == 3 else None
            study.tell(
                ended, None if failed else float(values["pruning_end" if space == CONDITIONAL else "p0"]), failed
            )


def test_tpe_is_shown_the_best_the_newest_that_run_and_a_sample_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "SHOWN", 8)
    monkeypatch.setattr(study_module, "BEST", 2)
    spec = load(tmp_path, TASK + MIXED, "study.sampler=random")
    study = create_study(spec, tmp_path / "study.journal")
    kept = Draws(study, spec)

    def shown() -> set[int]:
        trials = kept._look()
        numbers = [trial.number for trial in trials]
        assert numbers == sorted(numbers)
        assert [trial.number for trial in Draws(study, spec)._look()] == numbers
        return set(numbers)

    for _ in range(8):
        kept.ask()
    assert shown() == set(range(8))
    for number, score in ((3, 0.2), (0, 0.9), (1, 0.1), (2, 0.8), (4, 0.3)):
        study.tell(number, score)
        assert shown() == set(range(8))
    study.tell(5, state=TrialState.PRUNED)
    study.tell(6, state=TrialState.FAIL)
    for _ in range(6):
        kept.ask()
    found = shown()
    assert len(found) == 8
    assert found > {0, 2, 10, 11, 12, 13}  # the best two, and of the seven that run the newest four
    assert found - {0, 2, 10, 11, 12, 13} < {1, 3, 4, 5}
    for number in range(7, 14):
        study.tell(number, 0.0)
    sampled = shown() - {0, 2}
    assert len(sampled) == 6
    assert 6 not in sampled
    study.tell(Draws(study, spec).ask()[0], 0.85)
    assert shown() >= {0, 14}
    assert len(shown() & sampled) >= 5  # a sample is not drawn anew


def test_beyond_the_bound_tpe_learns_and_a_kept_history_draws_what_a_fresh_one_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "SHOWN", 60)
    monkeypatch.setattr(study_module, "BEST", 6)
    spec = load(tmp_path, TASK + "search: {p0: {low: 0, high: 1}, dropout: {low: 0, high: 1}}\n")

    def asked(name: str, fresh: bool) -> list[float]:
        study = create_study(spec, tmp_path / f"{name}.journal")
        draws, running, distances = Draws(study, spec), [], []
        for _ in range(120):
            running.append(Draws(study, spec).ask() if fresh else draws.ask())
            if len(running) == 4:  # the second first, so that they end out of order
                number, values = running.pop(1)
                distances.append(abs(float(values["p0"]) - 0.7) + abs(float(values["dropout"]) - 0.2))
                study.tell(number, -distances[-1])
        return distances

    kept = asked("kept", fresh=False)
    assert asked("fresh", fresh=True) == kept
    assert sum(kept[77:]) / 40 < 0.5 * 0.63  # drawn at random it is 0.29 + 0.34


def test_another_seed_draws_other_points(tmp_path: Path) -> None:
    first = load(tmp_path, TASK + MIXED, "study.sampler=random")
    second = load(tmp_path, TASK + MIXED, "study.sampler=random", "study.seed=1")
    draws = [Draws(create_study(spec, tmp_path / "study.journal"), spec).ask()[1] for spec in (first, second)]
    assert draws[0] != draws[1]


def test_an_asked_trial_is_running_with_its_point_in_the_storage(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK + MIXED)
    number, values = Draws(create_study(spec, tmp_path / "study.journal"), spec).ask()
    (trial,) = create_study(spec, tmp_path / "study.journal").get_trials(states=(TrialState.RUNNING,))
    assert (trial.number, trial.params) == (number, values)


def test_tpe_learns_from_what_it_is_told(tmp_path: Path) -> None:
    text = TASK + "search: {p0: {low: 0, high: 1}, dropout: {low: 0, high: 1}}\n"

    def mean_distance(sampler: str) -> float:
        spec = load(tmp_path, text, f"study.sampler={sampler}")
        study = create_study(spec, tmp_path / "study.journal")
        distances = []
        for _ in range(40):
            number, values = Draws(study, spec).ask()
            distances.append(abs(float(values["p0"]) - 0.7) + abs(float(values["dropout"]) - 0.2))
            study.tell(number, -distances[-1])
        return sum(distances[20:]) / 20

    assert mean_distance("tpe") < 0.6 * mean_distance("random")


def test_a_small_discrete_space_is_covered_and_no_point_repeats(tmp_path: Path) -> None:
    text = TASK + "search: {p0: {choices: [0.2, 0.6, 1.0]}}\nstudy: {sampler: random, trials: 4}\n"
    spec = load(tmp_path, text)
    assert spec.total_configurations() == 3
    points = run(create_study(spec, tmp_path / "study.journal"), spec, 3)
    assert {point["p0"] for point in points} == {0.2, 0.6, 1.0}


def test_a_changed_space_is_another_study(tmp_path: Path) -> None:
    first, second = load(tmp_path, TASK + MIXED), load(tmp_path, TASK + MIXED, "method.clip_norm=2")
    Draws(create_study(first, tmp_path / "study.journal"), first).ask()
    assert create_study(second, tmp_path / "study.journal").get_trials() == []
    assert create_study(first, tmp_path / "study.journal").study_name == f"x-{first.space_hash()}"


def test_a_half_written_last_line_of_the_journal_is_cut_off(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK + MIXED)
    journal = tmp_path / "study.journal"
    run(create_study(spec, journal), spec, 2)
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    study = create_study(spec, journal)
    run(study, spec, 1)
    assert len(create_study(spec, journal).get_trials()) == 3


def test_storages_that_cannot_be_opened(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK)
    (tmp_path / "garbage.journal").write_text("no journal\nat all\n")
    for storage in (tmp_path, tmp_path / "garbage.journal"):
        with pytest.raises(UserError) as caught:
            create_study(spec, storage)
        assert str(caught.value).startswith(f"{storage}: cannot be opened as an Optuna journal: ")
        assert "\n" not in str(caught.value)


def test_nothing_is_printed_and_no_warning_is_given(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec = load(tmp_path, TASK + CONDITIONAL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = create_study(spec, tmp_path / "study.journal")
        for _ in range(8):
            number, values = Draws(study, spec).ask()
            study.tell(number, float(values["pruning_end"]))
    assert capfd.readouterr() == ("", "")


def test_values_are_those_of_the_method(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK + MIXED)
    _, values = Draws(create_study(spec, tmp_path / "study.journal"), spec).ask()
    method = spec.trial_config(values, seed=0).method
    assert method.objective.temperature == values.pop("objective.temperature")
    assert {name: getattr(method, name) for name in values} == values
    assert method.clip_norm == MethodConfig().clip_norm


def test_a_method_fills_in_what_the_file_does_not_say(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK + "method: {name: theseus, p0: 0.3}\n")
    assert (spec.method.grafting, spec.method.pruning, spec.method.student.depth) == ("linear", "none", 0.5)
    assert spec.method.p0 == 0.3
    assert spec.trial_config({}, 0).method.name == "theseus"
    assert spec.search == {}


def test_a_method_of_the_command_line_brings_its_dimensions_and_keeps_what_means_something_to_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "x.yaml"
    text = (
        "search: {stage1_lr: {low: 1e-4, high: 1e-3}, stage2_epochs: {low: 1, high: 2}, pruning_end: {choices: [1]}}\n"
    )
    file.write_text(TASK + text + "warm_start: [{}]\n")
    spec = load_spec(file, method="theseus")
    assert set(spec.search) == {"p0", "grafting", "stage1_lr", "stage2_epochs"}
    assert spec.warm_start == ()
    with pytest.raises(UserError, match=r"method\.name: 'teseus' is unknown; did you mean theseus"):
        load_spec(file, method="teseus")


def test_methods_can_be_searched_and_each_is_composed_whole(tmp_path: Path) -> None:
    text = (
        "search: {method: {choices: [spd, pkd, tickets]}, stage1_lr: {choices: [1e-3, 3e-3]}}\nstudy: {sampler: grid}\n"
    )
    spec = load(tmp_path, TASK + "method: {target_sparsity: 0.5, objective: {attention_maps: scores}}\n" + text)
    assert spec.methods() == ["spd", "pkd", "tickets"]
    assert len(spec.first_points()) == 6
    pkd, tickets = (spec.trial_config({"method": name, "stage1_lr": 1e-3}, 1) for name in ("pkd", "tickets"))
    assert (pkd.method.student.depth, pkd.method.final_sparsity, pkd.method.objective.first_token) == (0.5, 0.0, 1.0)
    assert (tickets.method.pruning, tickets.method.final_sparsity) == ("lottery", 0.5)
    assert {pkd.method.objective.attention_maps, tickets.method.objective.attention_maps} == {"scores"}
    (tmp_path / "again.yaml").write_text(spec.to_yaml())
    again = load_spec(tmp_path / "again.yaml")
    assert again.space_hash() == spec.space_hash()
    assert again.trial_config({"method": "pkd"}, 1).method == spec.trial_config({"method": "pkd"}, 1).method


def test_the_hash_of_a_space_knows_the_method(tmp_path: Path) -> None:
    hashes = {load(tmp_path, TASK + f"method: {{name: {name}}}\n").space_hash() for name in ("spd", "kd_only", "pkd")}
    assert len(hashes) == 3


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_parts_that_do_not_go_together_are_left_out_and_a_space_ends_when_it_is_used_up(
    sampler: str, tmp_path: Path
) -> None:
    text = "search: {grafting: {choices: [three_stage, none]}, trained: {choices: [layers, all]}}\n"
    spec = load(tmp_path, TASK + text, f"study.sampler={sampler}", "study.trials=20")
    assert spec.total_configurations() == 3
    points = run(create_study(spec, tmp_path / "study.journal"), spec, 3)
    assert {(point["grafting"], point["trained"]) for point in points} == {
        ("three_stage", "layers"), ("none", "layers"), ("none", "all"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("task", "p0", "rate"),
    [("cola", 0.8, 5e-4), ("stsb", 0.8, 5e-4), ("mrpc", 0.8, 6.4e-4), ("rte", 0.6, 3e-5)],
)
def test_preset_paper_is_the_papers_table(task: str, p0: float, rate: float, tmp_path: Path) -> None:
    spec = load(tmp_path, f"task: {{name: {task}}}\npreset: paper\n")
    trial = spec.method
    assert (trial.p0, trial.later_lr, trial.stage1_lr) == (p0, rate, 3e-5)
    assert (trial.total_epochs, trial.stage1_epochs, trial.stage2_epochs, trial.batch_size) == (60, 30, 10, 32)
    assert (spec.task.max_length, spec.teacher.epochs, spec.teacher.learning_rates[0]) == (128, 4, 2e-5)


def test_a_preset_is_below_what_the_file_and_the_method_say(tmp_path: Path) -> None:
    spec = load(tmp_path, "task: {name: rte}\npreset: reference\nmethod: {name: minilm, clip_over: trained}\n")
    assert spec.method.clip_over == "trained"
    assert spec.method.objective.attention_maps == "scores"
    assert spec.method.objective.tokens == "all"
    assert spec.task.padding == "max_length"


def test_a_preset_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="preset: paper: the paper has no task 'mini_entailment'; it has cola, stsb"):
        load(tmp_path, TASK + "preset: paper\n")


@pytest.mark.parametrize("file", sorted((SPACES / "paper").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_space_of_the_paper_runs_as_it_is_and_on_the_miniature(file: Path) -> None:
    whole, mini = load_spec(file), load_spec(file, profile="mini")
    assert whole.name == mini.name == file.stem
    assert (whole.task.name.startswith("mini_"), mini.task.name.startswith("mini_")) == (False, True)
    assert whole.total_configurations() == mini.total_configurations() == len(mini.first_points())
    for before, after in zip(whole.first_points(), mini.first_points(), strict=True):
        long, short = whole.trial_config(before, 0).method, mini.trial_config(after, 0).method
        assert long.stage1_epochs / long.total_epochs == pytest.approx(short.stage1_epochs / short.total_epochs)
        assert (long.p0, long.final_sparsity, long.lr_schedule) == (short.p0, short.final_sparsity, short.lr_schedule)
        if "stage23_lr" in whole.search:
            assert short.later_lr == pytest.approx(10 * long.later_lr)


def test_on_the_miniature_what_starts_pretrained_is_trained_at_the_teachers_rate() -> None:
    rates = {}
    for name in ("fig02", "fig06"):  # from the pretrained model; from the teacher
        spec = load_spec(SPACES / "paper" / f"{name}.yaml", profile="mini")
        rates[name] = spec.trial_config(spec.first_points()[0], 0).method.stage1_lr
        assert spec.teacher.learning_rates == (3e-4,)
    assert rates == {"fig02": 3e-4, "fig06": 3e-3}


def test_overrides_go_over_the_profile(tmp_path: Path) -> None:
    spec = load_spec(SPACES / "paper" / "fig08.yaml", ["method.total_epochs=40", "study.seeds=[7]"], profile="mini")
    assert (spec.method.total_epochs, spec.method.stage1_epochs, spec.study.seeds) == (40, 15, (7,))
    with pytest.raises(UserError, match="--profile mini: nothing stands for the task 'mini_entailment'"):
        load_spec(SPACES / "demo.yaml", profile="mini")
