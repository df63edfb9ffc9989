"""The paper's figures on small sweeps written by hand: their numbers, and the artists that carry them."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made_sweep import (
    METHODS,
    RATE,
    RATES,
    SPARSITY,
    Cell,
    P,
    batch,
    labels,
    prunes,
    read,
    trial,
    two,
    varied,
    with_label,
    write_cells,
    write_steps,
    write_sweep,
)
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.beyond import trial_curves
from analysis.drawing import points, style
from analysis.drawing.captions import picture_title
from analysis.errors import NoData
from analysis.figures import fig02, fig04, fig06, fig07, fig08, fig09, fig10, fig11, fig12, fig13_to_16
from analysis.reading.sweeps import read_sweep
from spd_ray.records.schema import TrialRecord
from spd_ray.records.trials import write_trials


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)


def test_fig04_numbers_are_the_recorded_ones(sweep: Path) -> None:
    numbers = fig04.compute([read_sweep(sweep)])
    assert numbers.trial_id == "1-s1"
    assert numbers.p.tolist() == P
    assert numbers.sparsity.tolist() == SPARSITY
    np.testing.assert_allclose(numbers.learning_rate, RATE, rtol=1e-6)
    assert (numbers.t1, numbers.t2) == (4, 6)


def test_fig04_takes_the_stages_from_the_steps_and_not_from_the_trial(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, t1=1, t2=2, status="running")])
    write_steps(tmp_path, "0-s0", 0, 5, [batch(step) for step in range(5)])
    numbers = fig04.compute([read_sweep(tmp_path)], "0-s0")
    assert (numbers.t1, numbers.t2) == (4, None)
    text = fig04.caption(numbers)
    assert "trial 0-s0 (running)" in text
    assert "Stage II (green)" not in text


def test_fig04_an_empty_stage_two_ends_where_stage_one_does(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0)])
    write_steps(tmp_path, "0-s0", 0, 8, [batch(step, stage=1 if step < 4 else 3) for step in range(8)])
    numbers = fig04.compute([read_sweep(tmp_path)])
    assert (numbers.t1, numbers.t2) == (4, 4)


def test_fig04_draws_dashed_stage_ends_in_each_panel(sweep: Path) -> None:
    axes = tuple(Figure().subplots(3, 1))
    fig04.draw(fig04.compute([read_sweep(sweep)]), axes)
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
    numbers = fig08.compute([read_sweep(sweep)])
    assert numbers.value.tolist() == [0.1, 0.5]
    np.testing.assert_allclose(numbers.mean, [0.72, 0.83])
    assert numbers.low.tolist() == [0.70, 0.80]
    assert numbers.high.tolist() == [0.74, 0.86]
    assert numbers.n.tolist() == [2, 2]
    assert numbers.teachers == (0.9,)
    assert (numbers.data.exclusions, numbers.data.also_varying, numbers.data.balanced) == ((), (), True)


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
    numbers = fig08.compute([read_sweep(tmp_path)])
    assert numbers.mean.tolist() == [0.7, 0.8]
    assert numbers.data.exclusions == (("failed", 1), ("infeasible", 1), ("running", 2), ("stopped", 1))
    assert numbers.data.balanced
    text = fig08.caption(numbers)
    assert "Left out: 5 trials (1 failed, 1 infeasible, 2 running and 1 stopped)." in text
    assert "n = 1." in text


def test_fig08_seeds_of_another_number_are_no_other_dimension(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, p0=0.1), trial(0, seed=1, p0=0.1), trial(1, p0=0.5)])
    numbers = fig08.compute([read_sweep(tmp_path)])
    assert (numbers.n.tolist(), numbers.data.also_varying, numbers.data.balanced) == ([2, 1], (), True)


def test_fig08_says_whether_other_dimensions_are_mixed_evenly(tmp_path: Path) -> None:
    rates = [(0.1, 1e-3), (0.1, 2e-3), (0.5, 1e-3), (0.5, 2e-3)]
    grid = [trial(number, p0=p0, params={"stage1_lr": rate}) for number, (p0, rate) in enumerate(rates)]
    write_trials(tmp_path, grid)
    even = fig08.compute([read_sweep(tmp_path)])
    assert (even.data.also_varying, even.data.balanced) == (("stage1_lr",), True)
    assert "mixes them, evenly" in fig08.caption(even)
    write_trials(tmp_path, grid[:3])
    uneven = fig08.compute([read_sweep(tmp_path)])
    assert (uneven.data.also_varying, uneven.data.balanced) == (("stage1_lr",), False)
    assert "mixes them, unevenly; an adaptive sampler biases it" in fig08.caption(uneven)
    assert "n = 1 to 2" in fig08.caption(uneven)


def test_fig08_draws_band_points_mean_and_teacher(sweep: Path) -> None:
    axes = Figure().subplots()
    numbers = fig08.compute([read_sweep(sweep)])
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
    fig08.draw(fig08.compute([read_sweep(tmp_path)]), axes)
    mean = with_label(axes, "mean")
    assert mean.get_linestyle() == "None"
    assert mean.get_ydata()[0] == pytest.approx(0.8)
    assert np.isnan(mean.get_ydata()[1])  # one trial alone has no mean beside its own point


@pytest.mark.parametrize("module", [fig04, fig08, trial_curves])
def test_captions_say_the_setting_and_the_paper(module: Any, sweep: Path) -> None:
    text = module.caption(module.compute([read_sweep(sweep)]))
    for phrase in ("mini_entailment (synthetic miniature, not GLUE)", "model miniature", "sparsity 0.9", "seed",
                  "metric accuracy", "paper"):  # fmt: skip
        assert phrase in text


def test_a_real_task_is_not_called_synthetic(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, task="rte", p0=0.1), trial(1, task="rte", p0=0.5)])
    numbers = fig08.compute([read_sweep(tmp_path)])
    assert "synthetic" not in fig08.caption(numbers)
    assert "synthetic" not in picture_title(numbers.data.setting)


@pytest.mark.parametrize(
    ("module", "trials", "reason"),
    [
        (fig04, [], "no trial has ended .*no trials"),
        (fig04, [trial(0)], "trial 0-s0 has no recorded training step"),
        (fig08, [trial(0, status="running")], "no trial for it has finished .*1 running.*fig08.yaml"),
        (fig08, [trial(0, feasible=False)], "no trial has a student at its target sparsity .1 finished.*fig08.yaml"),
        (fig08, [trial(0), trial(1)], r"p₀ has only one value .* 0\.6 \(n = 2\)"),
        (trial_curves, [trial(0, feasible=False)], "no trial has ended with a student at its target sparsity"),
        (trial_curves, [trial(0)], "trial 0-s0 has no recorded evaluation"),
    ],
)
def test_no_data_says_why(module: Any, trials: list[TrialRecord], reason: str, tmp_path: Path) -> None:
    write_trials(tmp_path, trials)
    with pytest.raises(NoData, match=reason):
        module.compute([read_sweep(tmp_path)])


def test_students_chosen_on_a_holdout_are_shown_on_it(tmp_path: Path) -> None:
    sweeps = two(tmp_path, "fig07", varied(p0=0.0), varied(p0=0.6), selection="holdout")
    numbers = fig07.compute(sweeps)
    axes = Figure().subplots()
    fig07.draw(numbers, axes)
    assert axes.get_ylabel() == "Holdout accuracy (0 to 1)"
    assert len(numbers.groups[0].selected.step) == 4
    assert fig07.caption(numbers).startswith("Holdout score")


@pytest.mark.parametrize(("name", "method"), [("fig02", "kd_only"), ("fig02_without_kd", "finetune_prune")])
def test_fig02_numbers_and_panels(name: str, method: str, tmp_path: Path) -> None:
    cells = [Cell(prunes(method, s), 0.8, 0.9 + 0.1 * s) for s in (0.0, 0.5)]
    write_cells(tmp_path, name, [*cells, Cell({"method": "spd", "target_sparsity": 0.9}, 0.1)], noise=0.0)
    numbers = fig02.compute(read(tmp_path), name)
    assert numbers.scores.data.sweep == name
    assert numbers.sparsity.tolist() == [0.0, 0.5]
    np.testing.assert_allclose(numbers.mean_gap, [0.10, 0.15])
    assert numbers.slope is not None
    assert numbers.slope.value == pytest.approx(0.1)
    assert len(numbers.trial_gap) == 10
    axes = list(Figure().subplots(3, 1))
    fig02.draw(numbers, axes)
    assert {"sparsity = 0 (n = 5)", "sparsity = 0.5 (n = 5)", "train", "dev"} <= set(labels(axes[0]))
    assert axes[1].get_ylabel() == "Loss"
    assert "slope +0.100" in axes[2].texts[0].get_text()
    assert "train minus dev" in axes[2].get_ylabel().lower()


def test_fig06_orders_the_strategies_and_gives_each_its_colour(tmp_path: Path) -> None:
    wanted = zip(METHODS, (0.2, 0.15, 0.08, 0.05), strict=True)
    write_cells(tmp_path, "fig06", [Cell({"method": m}, 0.9 - g, 0.9) for m, g in wanted], noise=0.0)
    numbers = fig06.compute(read(tmp_path))
    assert [group.value for group in numbers.scores.groups] == list(METHODS)
    np.testing.assert_allclose([np.mean(list(gap.values())) for gap in numbers.gaps], [0.2, 0.15, 0.08, 0.05])
    axes = Figure().subplot_mosaic([["a", "b"], ["c", "d"], ["e", "e"]])
    fig06.draw(numbers, axes)
    bars = axes["e"].patches
    assert [bar.get_height() for bar in bars] == pytest.approx([0.2, 0.15, 0.08, 0.05])
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [style.METHODS[m][0].lower() for m in METHODS]
    assert {"train", "dev"} <= set(labels(axes["d"]))
    assert len(axes["d"].collections) == 2  # a band each


def test_fig06_says_which_strategy_is_missing(tmp_path: Path) -> None:
    write_cells(tmp_path, "fig06", [Cell({"method": m}, 0.7) for m in ("spd", "kd_only")])
    numbers = fig06.compute(read(tmp_path))
    assert fig06.missing_strategies(numbers) == ["finetune_prune", "progressive_only"]
    assert "No data for (a) and (b)." in fig06.caption(numbers)
    axes = Figure().subplot_mosaic([["a", "b"], ["c", "d"], ["e", "e"]])
    fig06.draw(numbers, axes)
    assert [text.get_text() for text in axes["a"].texts] == ["no data"]


def test_strategies_whose_own_trials_differ_are_called_mixed(tmp_path: Path) -> None:
    rates = [Cell({"method": m, **varied(stage1_lr=rate)}, 0.7) for m in METHODS for rate in (1e-3, 2e-3)]
    write_cells(tmp_path, "fig06", rates)
    numbers = fig06.compute(read(tmp_path))
    assert (numbers.scores.data.also_varying, numbers.scores.data.balanced) == (("stage1_lr",), False)
    assert "also differ in stage1_lr" in fig06.caption(numbers)


@pytest.mark.parametrize(("module", "first", "second", "names"), [
    (fig07, varied(p0=0.0), varied(p0=0.6), ["$p_0$ = 0 (n = 5)", "$p_0$ > 0 (n = 5)"]),
    (fig09, {"lr_schedule": "one_decay"}, {"lr_schedule": "two_decays"}, ["one decay (n = 5)", "two decays (n = 5)"]),
])  # fmt: skip
def test_two_strategies_over_steps(module: Any, first: dict, second: dict, names: list[str], tmp_path: Path) -> None:
    numbers = module.compute(two(tmp_path, module.NAME, first, second))
    assert [group.n for group in numbers.groups] == [5, 5]
    assert numbers.groups[1].mean - numbers.groups[0].mean == pytest.approx(0.1)
    axes = Figure().subplots()
    module.draw(numbers, axes)
    drawn = labels(axes)
    np.testing.assert_allclose(drawn[names[1]].get_ydata(), numbers.groups[1].selected.mean)
    assert to_hex(drawn[names[1]].get_color()) == style.SPD.lower()  # SPD's own strategy, as everywhere
    assert to_hex(drawn[names[0]].get_color()) == style.ALTERNATIVE.lower()
    assert drawn[names[0]].get_linestyle() == "--"
    assert len(axes.collections) == 2


def test_fig08_marks_the_non_progressive_design_where_it_was_run(tmp_path: Path) -> None:
    axes = Figure().subplots(2)
    for place, last in enumerate((1.0, 0.9)):
        root = tmp_path / str(place)
        fig08.draw(fig08.compute(two(root, "fig08", varied(p0=0.6), varied(p0=last))), axes[place])
    assert "non-progressive, $p_0$ = 1" in labels(axes[0])
    assert "non-progressive, $p_0$ = 1" not in labels(axes[1])


@pytest.mark.parametrize(("module", "key", "values", "common"), [
    (fig10, "pruning_end", (0.5, 1.0), {}),
    (fig11, "stage23_lr", (1e-4, 3.2e-4), {}),
    (fig12, "stage23_lr", (1e-4, 4e-4), {"metric": "spearman"}),
])  # fmt: skip
def test_grids_over_steps_and_by_best_score(module: Any, key: str, values: tuple, common: dict, tmp_path: Path) -> None:
    numbers = module.compute(two(tmp_path, module.NAME, *(varied(**{key: v}) for v in values), **common))
    assert numbers.best.value.tolist() == list(values)
    assert numbers.best.mean[1] - numbers.best.mean[0] == pytest.approx(0.1)
    axes = list(Figure().subplots(2))
    module.draw(numbers, axes)
    assert len([label for label in labels(axes[0]) if label.endswith("(n = 5)")]) == 2
    assert axes[1].get_xscale() == ("log" if key.endswith("lr") else "linear")
    assert labels(axes[1])["mean"].get_ydata().tolist() == numbers.best.mean.tolist()
    assert f"Figure {module.NAME[3:]}" in module.caption(numbers)


def test_a_grid_without_evaluations_keeps_its_best_scores(tmp_path: Path) -> None:
    write_trials(tmp_path / "fig11", [trial(n, stage23_lr=rate) for n, rate in enumerate(RATES)])
    numbers = fig11.compute(read(tmp_path))
    assert numbers.curves is None
    assert len(numbers.best.value) == len(RATES)
    assert len(fig11.figure(numbers).axes) == 1


def test_fig12_is_of_a_similarity_task_and_fig11_is_not(tmp_path: Path) -> None:
    sweeps = two(tmp_path, "rates", varied(stage23_lr=1e-4), varied(stage23_lr=4e-4), metric="spearman")
    assert len(fig12.compute(sweeps).best.value) == 2
    with pytest.raises(NoData, match=r"fig11\.yaml"):
        fig11.compute(sweeps)


def test_fig13_shows_its_task_and_says_another_sparsity(tmp_path: Path) -> None:
    write_cells(tmp_path, "fig13", [Cell({"target_sparsity": 0.9}, 0.6, dev_rise=0.1)], noise=0.0, task="cola")
    numbers = fig13_to_16.compute(read(tmp_path), "fig13")
    assert numbers.curve.step.tolist() == [2, 4, 6, 8]
    assert numbers.curve.mean[-1] - numbers.curve.mean[1] == pytest.approx(0.1)
    text = fig13_to_16.caption(numbers)
    assert "Task cola" in text
    assert "The paper's has sparsity 0.95." in text
    axes = Figure().subplots()
    fig13_to_16.draw(numbers, axes)
    assert {"dev (n = 5)", "dense teacher, 0.900", "majority class, 0.500", "end of Stage I"} <= set(labels(axes))
    with pytest.raises(NoData, match=r"no sweep fig16; search_spaces/paper/fig16\.yaml makes the data"):
        fig13_to_16.compute(read(tmp_path), "fig16")


def test_methods_keep_their_colours_and_ramps_get_lighter() -> None:
    colours = [style.method_mark(method)[0] for method in METHODS]
    assert len(set(colours)) == len(METHODS)
    assert style.method_mark("tickets") == style.method_mark("tickets")
    light = [sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in style.ramp(5)]
    assert light == sorted(light)


def test_stages_whose_ends_differ_between_trials_have_no_name() -> None:
    for t1, t2, names in ((4, 6, ["Stage I", "Stage II", "Stage III"]), (None, 6, ["Stage III"]), (None, None, [])):
        axes = Figure().subplots()
        style.mark_stages(axes, t1, t2, 8, named=True)
        assert [text.get_text() for text in axes.texts] == names


@pytest.mark.parametrize("values", [
    np.geomspace(1e-3, 5e-3, 12), np.geomspace(2e-5, 3e-2, 12), np.array([1.18e-3, 1.86e-3, 2.25e-3, 2.7e-3, 4.04e-3]),
])  # fmt: skip
def test_ticks_on_a_log_axis_do_not_overlap(values: np.ndarray) -> None:
    picture = Figure(figsize=(2.5, 2))
    axes = picture.subplots()
    axes.plot(values, values)
    points._scale_log(axes, values)
    picture.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    boxes = [box for box in boxes if axes.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1 + 1]
    assert len(boxes) >= 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
