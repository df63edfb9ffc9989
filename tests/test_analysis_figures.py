"""The figures on small sweeps written by hand: their numbers, and the artists that carry them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made_sweep import RATE, SPARSITY, P, batch, evaluation, trial, write_steps, write_sweep
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.beyond import trial_curves as curves
from analysis.errors import NoData
from analysis.figures import fig04, fig08
from analysis.reading.sweeps import read_tables
from analysis.wording import formatting as words
from spd_ray.records import TrialRecord, write_trials


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)


def with_label(axes: Axes, label: str) -> Any:
    """The one line of that label."""
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def test_fig04_numbers_are_the_recorded_ones(sweep: Path) -> None:
    numbers = fig04.compute([read_tables(sweep)])
    assert numbers.trial_id == "1-s1"
    assert numbers.p.tolist() == P
    assert numbers.sparsity.tolist() == SPARSITY
    np.testing.assert_allclose(numbers.learning_rate, RATE, rtol=1e-6)
    assert (numbers.t1, numbers.t2) == (4, 6)


def test_fig04_takes_the_stages_from_the_steps_and_not_from_the_trial(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, t1=1, t2=2, status="running")])
    write_steps(tmp_path, "0-s0", 0, 5, [batch(step) for step in range(5)])
    numbers = fig04.compute([read_tables(tmp_path)], "0-s0")
    assert (numbers.t1, numbers.t2) == (4, None)
    text = fig04.caption(numbers)
    assert "trial 0-s0 (running)" in text
    assert "Stage II (green)" not in text


def test_fig04_an_empty_stage_two_ends_where_stage_one_does(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0)])
    write_steps(tmp_path, "0-s0", 0, 8, [batch(step, stage=1 if step < 4 else 3) for step in range(8)])
    numbers = fig04.compute([read_tables(tmp_path)])
    assert (numbers.t1, numbers.t2) == (4, 4)


def test_fig04_draws_dashed_stage_ends_in_each_panel(sweep: Path) -> None:
    axes = tuple(Figure().subplots(3, 1))
    fig04.draw(fig04.compute([read_tables(sweep)]), axes)
    for panel in axes:
        first, second = with_label(panel, "end of Stage I"), with_label(panel, "end of Stage II")
        assert (first.get_xdata()[0], second.get_xdata()[0]) == (4, 6)
        assert first.get_linestyle() == second.get_linestyle() == "--"
        assert (to_hex(first.get_color()), to_hex(second.get_color())) == ("#d55e00", "#009e73")
    assert [text.get_text() for text in axes[0].texts] == ["Stage I", "Stage II", "Stage III", "$p_0$ = 0.5"]
    assert [text.get_text() for text in axes[2].texts] == ["$λ_0$ = 4e-3", "$λ_1$ = 2e-3"]
    assert "applied optimizer steps" in axes[2].get_xlabel()
    assert "fraction of zeros" in axes[1].get_ylabel()


def test_fig08_means_and_bands(sweep: Path) -> None:
    numbers = fig08.compute([read_tables(sweep)])
    assert numbers.value.tolist() == [0.1, 0.5]
    np.testing.assert_allclose(numbers.mean, [0.72, 0.83])
    assert numbers.low.tolist() == [0.70, 0.80]
    assert numbers.high.tolist() == [0.74, 0.86]
    assert numbers.n.tolist() == [2, 2]
    assert numbers.teachers == (0.9,)
    assert (numbers.data.left_out, numbers.data.searched, numbers.data.balanced) == ((), (), True)


def test_fig08_leaves_out_what_does_not_compare_and_says_so(tmp_path: Path) -> None:
    write_trials(
        tmp_path,
        [
            trial(0, p0=0.1, best_score=0.7),
            trial(1, p0=0.5, best_score=0.8),
            trial(2, p0=0.5, best_score=0.1, status="stopped"),
            trial(3, p0=0.5, best_score=None, feasible=False),
            trial(4, p0=0.5, best_score=0.1, status="failed"),
            trial(5, p0=0.5, best_score=0.1, status="running"),
            trial(6, p0=0.5, best_score=0.1, status="running"),
        ],
    )
    numbers = fig08.compute([read_tables(tmp_path)])
    assert numbers.mean.tolist() == [0.7, 0.8]
    assert numbers.data.left_out == (("failed", 1), ("infeasible", 1), ("running", 2), ("stopped", 1))
    assert numbers.data.balanced
    text = fig08.caption(numbers)
    assert "Left out: 5 trials (1 failed, 1 infeasible, 2 running and 1 stopped)." in text
    assert "n = 1." in text


def test_fig08_seeds_of_another_number_are_no_other_dimension(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, p0=0.1), trial(0, seed=1, p0=0.1), trial(1, p0=0.5)])
    numbers = fig08.compute([read_tables(tmp_path)])
    assert (numbers.n.tolist(), numbers.data.searched, numbers.data.balanced) == ([2, 1], (), True)


def test_fig08_says_whether_other_dimensions_are_mixed_evenly(tmp_path: Path) -> None:
    rates = [(0.1, 1e-3), (0.1, 2e-3), (0.5, 1e-3), (0.5, 2e-3)]
    grid = [trial(number, p0=p0, params={"stage1_lr": rate}) for number, (p0, rate) in enumerate(rates)]
    write_trials(tmp_path, grid)
    even = fig08.compute([read_tables(tmp_path)])
    assert (even.data.searched, even.data.balanced) == (("stage1_lr",), True)
    assert "mixes them, evenly" in fig08.caption(even)
    write_trials(tmp_path, grid[:3])
    uneven = fig08.compute([read_tables(tmp_path)])
    assert (uneven.data.searched, uneven.data.balanced) == (("stage1_lr",), False)
    assert "mixes them, unevenly; an adaptive sampler biases it" in fig08.caption(uneven)
    assert "n = 1 to 2" in fig08.caption(uneven)


def test_fig08_draws_band_points_mean_and_teacher(sweep: Path) -> None:
    axes = Figure().subplots()
    numbers = fig08.compute([read_tables(sweep)])
    fig08.draw(numbers, axes)
    assert with_label(axes, "mean").get_ydata().tolist() == numbers.mean.tolist()
    assert with_label(axes, "mean").get_linestyle() == "-"
    assert sorted(with_label(axes, "trial").get_ydata()) == [0.70, 0.74, 0.80, 0.86]
    assert with_label(axes, "dense teacher, 0.900").get_ydata()[0] == 0.9
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).ymin == pytest.approx(0.70)
    assert band.get_datalim(axes.transData).ymax == pytest.approx(0.86)
    assert axes.get_ylabel() == "Best dev accuracy (0 to 1)"


def test_fig08_joins_no_means_that_do_not_compare_like_with_like(tmp_path: Path) -> None:
    methods = [{"stage1_lr": rate} for rate in (1e-3, 2e-3, 3e-3)]
    write_trials(tmp_path, [trial(n, p0=(0.1, 0.1, 0.5)[n], params=method) for n, method in enumerate(methods)])
    axes = Figure().subplots()
    fig08.draw(fig08.compute([read_tables(tmp_path)]), axes)
    mean = with_label(axes, "mean")
    assert mean.get_linestyle() == "None"
    assert mean.get_ydata()[0] == pytest.approx(0.8)
    assert np.isnan(mean.get_ydata()[1])  # one trial alone has no mean beside its own point


def test_curves_numbers(sweep: Path) -> None:
    numbers = curves.compute([read_tables(sweep)])
    assert numbers.dev_step.tolist() == [4, 6, 8]
    assert numbers.dev_score.tolist() == [0.7, 0.86, 0.85]
    assert (numbers.train_step.tolist(), numbers.train_score.tolist()) == ([4], [0.9])
    assert (numbers.t1, numbers.t2, numbers.t3, numbers.pruning_end_step) == (4, 6, 8, 4)
    assert (numbers.best_step, numbers.best_score, numbers.teacher_score) == (6, 0.86, 0.9)


def test_curves_of_a_trial_whose_length_is_not_known_end_at_its_last_evaluation(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, status="running", t1=None, t2=None, t3=None, pruning_end_step=None)])
    write_steps(tmp_path, "0-s0", 0, 6, [evaluation(3, "dev", 0.7), evaluation(6, "dev", 0.8)])
    numbers = curves.compute([read_tables(tmp_path)], "0-s0")
    assert (numbers.t1, numbers.t3, numbers.pruning_end_step) == (None, 6, None)


def test_curves_draw_scores_stages_pruning_and_best(sweep: Path) -> None:
    axes = Figure().subplots()
    numbers = curves.compute([read_tables(sweep)])
    curves.draw(numbers, axes)
    assert with_label(axes, "dev").get_ydata().tolist() == [0.7, 0.86, 0.85]
    assert with_label(axes, "train").get_xdata().tolist() == [4]
    assert with_label(axes, "end of Stage I").get_xdata()[0] == 4
    assert with_label(axes, "end of Stage II").get_xdata()[0] == 6
    best = with_label(axes, "best dev")
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (6, 0.86)
    (span,) = [patch for patch in axes.patches if patch.get_label() == "pruning"]
    assert span.get_extents().transformed(axes.transData.inverted()).x1 == pytest.approx(4)
    assert axes.get_xlim() == (0, 8)
    assert "gap +0.090" in curves.caption(numbers)


@pytest.mark.parametrize("module", [fig04, fig08, curves])
def test_captions_say_the_setting_and_the_paper(module: Any, sweep: Path) -> None:
    text = module.caption(module.compute([read_tables(sweep)]))
    for phrase in ("mini_entailment (synthetic miniature, not GLUE)", "model miniature", "sparsity 0.9", "seed",
                  "metric accuracy", "paper"):  # fmt: skip
        assert phrase in text


def test_a_real_task_is_not_called_synthetic(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, task="rte", p0=0.1), trial(1, task="rte", p0=0.5)])
    numbers = fig08.compute([read_tables(tmp_path)])
    assert "synthetic" not in fig08.caption(numbers)
    assert "synthetic" not in words.title(numbers.data.setting)


@pytest.mark.parametrize(
    ("module", "trials", "reason"),
    [
        (fig04, [], "no trial has ended .*no trials"),
        (fig04, [trial(0)], "trial 0-s0 has no recorded training step"),
        (fig08, [trial(0, status="running")], "no trial for it has finished .*1 running.*fig08.yaml"),
        (fig08, [trial(0), trial(1)], r"p₀ has only one value .* 0\.6 \(n = 2\)"),
        (curves, [trial(0, feasible=False)], "no trial has ended with a student at its target sparsity"),
        (curves, [trial(0)], "trial 0-s0 has no recorded evaluation"),
    ],
)
def test_no_data_says_why(module: Any, trials: list[TrialRecord], reason: str, tmp_path: Path) -> None:
    write_trials(tmp_path, trials)
    with pytest.raises(NoData, match=reason):
        module.compute([read_tables(tmp_path)])
