"""The points that a sweep runs: possible, new, in the order that was asked for, and no more than there are."""

import itertools
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spd_ray.base.errors import UserError
from spd_ray.config import sweep as sweep_module
from spd_ray.config.method import MethodConfig
from spd_ray.study.study import Draws, create_study, draw_once
from tests.spaces import CONDITIONAL, MIXED, TASK, load, run


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


def test_a_small_discrete_space_is_covered_and_no_point_repeats(tmp_path: Path) -> None:
    text = TASK + "search: {p0: {choices: [0.2, 0.6, 1.0]}}\nstudy: {sampler: random, trials: 4}\n"
    spec = load(tmp_path, text)
    assert spec.total_configurations() == 3
    points = run(create_study(spec, tmp_path / "study.journal"), spec, 3)
    assert {point["p0"] for point in points} == {0.2, 0.6, 1.0}


def test_values_are_those_of_the_method(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK + MIXED)
    _, values = Draws(create_study(spec, tmp_path / "study.journal"), spec).ask()
    method = spec.trial_config(values, seed=0).method
    assert method.objective.temperature == values.pop("objective.temperature")
    assert {name: getattr(method, name) for name in values} == values
    assert method.clip_norm == MethodConfig().clip_norm


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


def test_the_values_in_the_storage_are_those_of_the_trials_without_the_digits_of_binary_fractions(
    tmp_path: Path,
) -> None:
    spec = load(tmp_path, TASK + "search: {p0: {low: 0.1, high: 1.0, step: 0.1}}\nstudy: {trials: 10}\n")
    study = create_study(spec, tmp_path / "study.journal")
    points = run(study, spec, 10)
    assert {repr(point["p0"]) for point in points} == {str(tenth / 10) for tenth in range(1, 11)}
    assert [trial.params for trial in create_study(spec, tmp_path / "study.journal").get_trials()] == points


@pytest.mark.parametrize(
    ("study", "text"),
    [
        ("{trials: 20}", "2 configurations under 1 seed (trials: 20 asked, the space has 2 points)"),
        ("{trials: 20, sampler: grid}", "2 configurations under 1 seed (trials: 20 asked, the space has 2 points)"),
        ("{trials: 2}", "2 configurations under 1 seed"),
        ("{seeds: [0, 1]}", "2 configurations under 2 seeds"),
    ],
)
def test_a_space_of_fewer_points_than_asked_for_says_so(study: str, text: str, tmp_path: Path) -> None:
    space = f"search: {{stage1_epochs: {{choices: [30, 50]}}}}\nwarm_start: [{{}}, {{}}]\nstudy: {study}\n"
    spec = load(tmp_path, TASK + space)
    assert spec.describe_size() == text
    assert spec.first_points()[0] == {"stage1_epochs": 30}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_space_that_was_too_large_to_be_counted_ends_when_nothing_new_is_found(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "GRID_LIMIT", 2)
    spec = load(tmp_path, TASK + f"search: {{p0: {{choices: [0.2, 0.6, 1.0]}}}}\nstudy: {{sampler: {sampler}}}\n")
    assert spec.total_configurations() == 8
    study = create_study(spec, tmp_path / "study.journal")
    assert {point["p0"] for point in run(study, spec, 3)} == {0.2, 0.6, 1.0}
    assert [Draws(study, spec).ask(), Draws(study, spec).ask()] == [None, None]
    assert len(study.get_trials()) == 3


def test_the_values_of_a_long_range_are_not_listed(tmp_path: Path) -> None:
    text = TASK + "search: {batch_size: {low: 1, high: 1000000000}, eval_train_examples: {low: 1, high: 3}}\n"
    spec = load(tmp_path, text)
    (point,) = run(create_study(spec, tmp_path / "study.journal"), spec, 1)
    assert {type(value) for value in point.values()} == {int}


def test_a_grid_takes_whole_numbers_one_after_the_other(tmp_path: Path) -> None:
    text = TASK + "search: {batch_size: {low: 8, high: 10}}\nstudy: {sampler: grid, trials: 9}\n"
    assert load(tmp_path, text).first_points() == [{"batch_size": 8}, {"batch_size": 9}, {"batch_size": 10}]


LEVELS = "search:\n  p0: {low: 0, high: 1}\n  target_sparsity: {choices: [0.8, 0.9, 0.95]}\n"


def test_target_sparsities_take_turns_and_each_finds_its_own_optimum(tmp_path: Path) -> None:
    """The score falls with sparsity, and in each level it is best at p0 = 0.3: a search for scores stays at 0.8."""
    spec = load(tmp_path, TASK + LEVELS + "study: {trials: 45}\n")
    study = create_study(spec, tmp_path / "study.journal")
    draws, points = Draws(study, spec), []
    for _ in range(45):
        number, point = draws.ask()
        points.append(point)
        study.tell(number, 10 * (1 - point["target_sparsity"]) - abs(point["p0"] - 0.3))
    assert [point["target_sparsity"] for point in points] == [0.8, 0.9, 0.95] * 15
    late = [point["p0"] for point in points[24:] if point["target_sparsity"] == 0.95]
    assert sum(abs(p0 - 0.3) < 0.2 for p0 in late) >= 5, late
    assert [trial.value for trial in study.get_trials()][:2] != [1.0, 1.0]  # the journal holds scores, not ranks


def test_a_resumed_study_of_several_sparsities_draws_what_an_undisturbed_one_draws(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK + LEVELS)
    journal = tmp_path / "study.journal"
    study = create_study(spec, journal)
    draws = Draws(study, spec)
    for count in range(9):
        number, point = draws.ask()
        study.tell(number, point["p0"] * (count % 4))
    again = Draws(create_study(spec, journal), spec)
    shown = again._look()
    assert [trial.value for trial in shown] == [trial.value for trial in draws._look()]
    assert [max(trial.value for trial in shown[turn::3]) for turn in range(3)] == [1.0, 1.0, 1.0]
    assert again.ask() == draws_of_a_copy(draws, shown)


def draws_of_a_copy(draws: Draws, shown: list) -> tuple[int, dict]:
    """What `draws` would ask now, without asking."""
    return draws.count, draws._draw(shown, draws.count)
