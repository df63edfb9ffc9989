"""The Optuna study: a draw depends on its history alone, TPE learns from it, and a kill leaves it whole."""

import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from spd_ray.base.errors import UserError
from spd_ray.config.dimensions import tidy
from spd_ray.config.sweep import SweepSpec
from spd_ray.study import study as study_module
from spd_ray.study.study import Draws, create_study
from tests.spaces import CONDITIONAL, MIXED, TASK, load, run


def point_score(values: dict[str, Any]) -> float:
    return float(values["p0"]) - abs(float(values.get("stage1_epochs", 0)) - 20) / 100


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
