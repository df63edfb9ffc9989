"""The figures beyond the paper on small sweeps written by hand: their numbers, and the artists that carry them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_made_sweep import (
    Cell,
    evaluation,
    labels,
    read,
    trial,
    varied,
    with_label,
    write_cells,
    write_steps,
    write_sweep,
)
from matplotlib.figure import Figure

from analysis.beyond import (
    all_curves,
    best_so_far,
    device_hours,
    gap_by_sparsity,
    grafting_by_depth,
    heat_maps,
    importances,
    marginals,
    parallel_coordinates,
    pareto,
    trial_curves,
)
from analysis.errors import NoData
from analysis.reading.sweeps import Sweep, read_sweep
from analysis.reading.trials import LATER_COLUMNS
from spd_ray.records.schema import TRIAL_SCHEMA
from spd_ray.records.trials import write_trials


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)


def test_curves_numbers(sweep: Path) -> None:
    numbers = trial_curves.compute([read_sweep(sweep)])
    assert numbers.dev_step.tolist() == [4, 6, 8]
    assert numbers.dev_score.tolist() == [0.7, 0.86, 0.85]
    assert (numbers.train_step.tolist(), numbers.train_score.tolist()) == ([4], [0.9])
    assert (numbers.t1, numbers.t2, numbers.t3, numbers.pruning_end_step) == (4, 6, 8, 4)
    assert (numbers.best_step, numbers.best_score, numbers.teacher_score) == (6, 0.86, 0.9)


def test_curves_of_a_trial_whose_length_is_not_known_end_at_its_last_evaluation(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, status="running", t1=None, t2=None, t3=None, pruning_end_step=None)])
    write_steps(tmp_path, "0-s0", 0, 6, [evaluation(3, "dev", 0.7), evaluation(6, "dev", 0.8)])
    numbers = trial_curves.compute([read_sweep(tmp_path)], "0-s0")
    assert (numbers.t1, numbers.t3, numbers.pruning_end_step) == (None, 6, None)


def test_curves_draw_scores_stages_pruning_and_best(sweep: Path) -> None:
    axes = Figure().subplots()
    numbers = trial_curves.compute([read_sweep(sweep)])
    trial_curves.draw(numbers, axes)
    assert with_label(axes, "dev").get_ydata().tolist() == [0.7, 0.86, 0.85]
    assert with_label(axes, "train").get_xdata().tolist() == [4]
    assert with_label(axes, "end of Stage I").get_xdata()[0] == 4
    assert with_label(axes, "end of Stage II").get_xdata()[0] == 6
    best = with_label(axes, "best dev")
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (6, 0.86)
    (span,) = [patch for patch in axes.patches if patch.get_label() == "pruning"]
    assert span.get_extents().transformed(axes.transData.inverted()).x1 == pytest.approx(4)
    assert axes.get_xlim() == (0, 8)
    assert "gap +0.090" in trial_curves.caption(numbers)


def test_gap_lines_take_the_levels_of_a_ladder(tmp_path: Path) -> None:
    levels = [{"sparsity": s, "score": 0.8, "train_score": 0.8 + s / 2} for s in (0.5, 0.7)]
    write_trials(tmp_path, [trial(0, seed, ladder=json.dumps(levels), train_score=1.25) for seed in range(3)])
    (line,) = gap_by_sparsity.compute(read(tmp_path)).lines
    assert line.sparsity.tolist() == [0.5, 0.7, 0.9]
    np.testing.assert_allclose(line.mean, [0.25, 0.35, 0.45])
    assert line.slope.value == pytest.approx(0.5)
    assert line.slope.n == 3


def test_gap_needs_two_sparsities(tmp_path: Path) -> None:
    write_cells(tmp_path, "one", [Cell({}, 0.7)])
    with pytest.raises(NoData, match=r"fig02\.yaml"):
        gap_by_sparsity.compute(read(tmp_path))


def test_pareto_front_and_remaining_weights(tmp_path: Path) -> None:
    cells = [Cell({"target_sparsity": s}, score) for s, score in ((0.9, 0.6), (0.8, 0.5), (0.5, 0.8))]
    write_cells(tmp_path, "sizes", cells, noise=0.0, seeds=2)
    write_trials(tmp_path / "uncounted", [trial(0)])
    numbers = pareto.compute(read(tmp_path), "pareto")
    (task,) = numbers.tasks
    np.testing.assert_allclose(sorted(task.cost), np.array([11000, 21000, 51000]) / 1010)
    np.testing.assert_allclose(task.cost[task.front], np.array([11000, 51000]) / 1010)
    assert numbers.unknown == 1
    axes = [Figure().subplots()]
    pareto.draw(numbers, axes)
    assert labels(axes[0])["Pareto front"].get_drawstyle() == "steps-post"
    assert "1 trial without counts of its parameters not shown" in pareto.caption(numbers)


def test_pareto_takes_the_counted_weights_before_the_sparsity(tmp_path: Path) -> None:
    write_trials(
        tmp_path, [trial(0, encoder_parameters=1000, prunable_parameters=900, remaining_encoder_parameters=250)]
    )
    assert pareto.compute(read(tmp_path), "pareto").tasks[0].cost.tolist() == [25.0]


def test_size_and_latency_are_drawn_once_the_records_have_them(tmp_path: Path) -> None:
    cells = [Cell({"target_sparsity": s}, score) for s, score in ((0.5, 0.8), (0.9, 0.6))]
    folder = write_cells(tmp_path, "sized", cells, noise=0.0, seeds=2)
    table = pq.read_table(folder / "trials.parquet").drop_columns(
        [name for name in LATER_COLUMNS if name in TRIAL_SCHEMA.names]
    )
    pq.write_table(table, folder / "trials.parquet")
    for name in ("size", "latency"):
        with pytest.raises(NoData, match="no student has its"):
            pareto.compute(read(tmp_path), name)
    measured = {"packed_bytes": [3_000_000, 5_000_000, 1_000_000, None], "latency_ms": [2.0, 4.0, 1.0, None],
                "dense_latency_ms": [9.0, 9.0, 9.0, None]}  # fmt: skip
    for name, values in measured.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, folder / "trials.parquet")
    size, latency = (pareto.compute(read(tmp_path), name) for name in ("size", "latency"))
    assert (size.tasks[0].cost.tolist(), size.unknown) == ([4.0, 1.0], 1)
    assert (latency.tasks[0].cost.tolist(), latency.tasks[0].dense) == ([3.0, 1.0], 9.0)
    axes = [Figure().subplots()]
    pareto.draw(latency, axes)
    assert (9.0, 0.9) in [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes[0].lines]


def several_sparsities(root: Path) -> list[Sweep]:
    """Two configurations at each of 0.8 and 0.95 under two seeds; stage lengths differ."""
    cells = [
        Cell({**varied(p0=p0), "target_sparsity": sparsity, "t1": t1}, dev)
        for p0, sparsity, t1, dev in ((0.2, 0.8, 4, 0.85), (0.6, 0.8, 3, 0.9), (0.2, 0.95, 4, 0.7), (0.6, 0.95, 3, 0.6))
    ]
    write_cells(root, "several", cells, seeds=2, noise=0.0)
    return read(root)


def test_best_so_far_has_a_line_a_sparsity(tmp_path: Path) -> None:
    numbers = best_so_far.compute(several_sparsities(tmp_path))
    low, high = numbers.lines
    assert (low.sparsity, high.sparsity, numbers.in_hours) == (0.8, 0.95, True)
    np.testing.assert_allclose(high.spent, np.array([5, 6, 7, 8]) * 30 / 3600)
    assert low.best.tolist() == np.maximum.accumulate(low.score).tolist()
    assert high.best[-1] == high.score[:2].max()
    assert high.keys == ("run:several/2/2-s0", "run:several/2/2-s1", "run:several/3/3-s0", "run:several/3/3-s1")
    axes = Figure().subplots()
    best_so_far.draw(numbers, axes)
    assert with_label(axes, "best at 0.95").get_ydata()[-1] == high.best[-1]
    assert [line.get_gid() for line in axes.lines if line.get_gid()] == [*low.keys, *high.keys]


def test_best_so_far_counts_trials_where_no_time_is_known(tmp_path: Path) -> None:
    records = [
        trial(0, best_score=0.7),
        trial(1, status="failed"),
        trial(2, best_score=0.6),
        trial(3, status="running"),
    ]
    write_trials(tmp_path, records)
    numbers = best_so_far.compute(read(tmp_path))
    (line,) = numbers.lines
    assert (numbers.in_hours, line.spent.tolist(), line.best.tolist()) == (False, [1, 3], [0.7, 0.7])
    assert numbers.exclusions == (("without a student at its target sparsity", 1),)
    assert "0.700 was reached with trial 1" in best_so_far.caption(numbers)


def test_all_curves_draws_every_trial_and_the_best_on_top(tmp_path: Path) -> None:
    numbers = all_curves.compute(several_sparsities(tmp_path))
    assert len(numbers.lines) == 8
    assert numbers.lines[-1].best_score == max(line.best_score or 0 for line in numbers.lines)
    assert numbers.lines[0].step.tolist() == [2, 4, 6, 8]
    axes = Figure().subplots()
    all_curves.draw(numbers, axes)
    assert {line.get_gid() for line in axes.lines if line.get_gid()} == {line.key for line in numbers.lines}
    with pytest.raises(NoData, match="no trial has been evaluated yet"):
        all_curves.compute([])


def test_parallel_coordinates_rank_within_a_sparsity(tmp_path: Path) -> None:
    numbers = parallel_coordinates.compute(several_sparsities(tmp_path))
    assert [axis.name for axis in numbers.axes] == ["p0", "sparsity", "mean score"]
    assert numbers.keys == tuple(f"run:several/{number}/" for number in (3, 2, 0, 1))
    assert numbers.axes[0].place.tolist() == [1, 0, 0, 1]
    assert numbers.rank.tolist() == [0, 1, 0, 1]
    assert numbers.axes[1].ticks == ((0.0, "0.8"), (1.0, "0.95"))
    assert len(parallel_coordinates.figure(numbers).axes[0].lines) == 4 + 3


def test_axes_of_rates_words_and_missing_values() -> None:
    rates = parallel_coordinates._axis("lr", [1e-4, 1e-3, 1e-2])
    np.testing.assert_allclose(rates.place, [0, 0.5, 1])
    words = parallel_coordinates._axis("method", ["spd", "kd_only", None])
    np.testing.assert_array_equal(words.place, [1, 0, np.nan])
    assert words.ticks == ((0.0, "kd only"), (1.0, "spd"))


def test_importances_do_not_count_the_sparsity(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cells = [
        Cell({**varied(p0=float(p), stage1_epochs=float(e), target_sparsity=s), "target_sparsity": s}, 1.2 - s + p / 5)
        for p, e, s in zip(generator.uniform(0, 1, 24), generator.uniform(10, 30, 24), [0.5, 0.9] * 12, strict=True)
    ]
    write_cells(tmp_path, "demo", cells, seeds=1)
    numbers = importances.compute(read(tmp_path))
    assert set(numbers.dimension) == {"p0", "stage1_epochs"}
    assert (numbers.dimension[0], numbers.share[0] > 0.8, numbers.few) == ("p0", True, False)
    assert "less the mean at its target sparsity" in importances.caption(numbers)
    few = numbers._replace(configurations=6)
    assert importances.caption(few).startswith("Warning: 6 configurations for 2 dimensions are few")
    axes = Figure().subplots()
    importances.draw(few, axes)
    assert axes.get_title() == "only 6 configurations for 2 dimensions: rough"


def test_depth_pairs_the_methods_by_seed_at_each_depth(tmp_path: Path) -> None:
    for layers, gain in ((4, 0.01), (12, 0.06)):
        cells = [Cell({"method": m, "layers": layers}, 0.7 + gain * (m == "spd"), 0.9) for m in ("kd_only", "spd")]
        write_cells(tmp_path, f"depth_{layers}", cells, noise=0.0)
    numbers = grafting_by_depth.compute(read(tmp_path))
    assert numbers.layers == (4, 12)
    assert [estimate.value for estimate in numbers.score_gain] == pytest.approx([0.01, 0.06])
    assert [change.value for change in numbers.gap_change if change] == pytest.approx([-0.01, -0.06])
    assert all(estimate.paired and estimate.n == 5 for estimate in numbers.score_gain)
    axes = list(Figure().subplots(2))
    grafting_by_depth.draw(numbers, axes)
    assert [text.get_text() for text in axes[0].texts] == ["n = 5", "n = 5"]
    with pytest.raises(NoData, match=r"depth\.yaml"):
        grafting_by_depth.compute([])


def lengths(root: Path, missing: int = 0) -> list[Sweep]:
    cells = [Cell(varied(stage1_epochs=a, stage2_epochs=b), 0.5 + a / 100 + b / 50)
             for a in (10.0, 20.0, 30.0) for b in (5.0, 10.0)]  # fmt: skip
    write_cells(root, "grid", cells[missing:], noise=0.0)
    return read(root)


def test_heat_map_cells(tmp_path: Path) -> None:
    numbers = heat_maps.compute(lengths(tmp_path, missing=1), heat_maps.STAGES)
    assert (numbers.x_values.tolist(), numbers.y_values.tolist()) == ([10, 20, 30], [5, 10])
    assert np.isnan(numbers.mean[0, 0])
    assert numbers.mean[1, 2] - numbers.mean[1, 0] == pytest.approx(0.2)
    assert numbers.n.tolist() == [[0, 5, 5], [5, 5, 5]]
    assert "White: 1 cell without a trial." in heat_maps.caption(numbers)
    axes = Figure().subplots()
    heat_maps.draw(numbers, axes)
    assert len(axes.texts) == 5
    assert axes.get_xlabel() == "Stage I (epochs)"
    with pytest.raises(NoData, match="grid sampler"):
        heat_maps.compute(read(tmp_path), heat_maps.INTERACTION)


def test_scattered_values_are_no_heat_map(tmp_path: Path) -> None:
    cells = [Cell(varied(stage1_epochs=10.0 + i, stage2_epochs=5.0 + i), 0.7) for i in range(6)]
    write_cells(tmp_path, "line", cells)
    with pytest.raises(NoData, match=r"stages\.yaml"):
        heat_maps.compute(read(tmp_path), heat_maps.STAGES)


def test_importances_find_the_dimension_that_matters(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cells = [Cell(varied(p0=float(p), stage1_epochs=float(e)), 0.5 + p / 3)
             for p, e in zip(generator.uniform(0, 1, 30), generator.uniform(10, 30, 30), strict=True)]  # fmt: skip
    write_cells(tmp_path, "demo", cells, seeds=2)
    numbers = importances.compute(read(tmp_path))
    assert numbers.dimension[0] == "p0"
    assert numbers.share[0] > 0.9
    assert numbers.share.sum() == pytest.approx(1)
    assert (numbers.configurations, numbers.used) == (30, 30)
    axes = Figure().subplots()
    importances.draw(numbers, axes)
    assert [bar.get_width() for bar in axes.patches] == numbers.share.tolist()


def test_importances_without_optuna_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = lengths(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(NoData, match="importances need optuna"):
        importances.compute(sweeps)


@pytest.mark.parametrize(("sampler", "full", "word"), [
    ("grid", True, "A grid: each value met the same"),
    ("tpe", False, "Biased: the adaptive sampler (tpe)"),
    ("random", False, "Not a grid (sampler: random)"),
])  # fmt: skip
def test_marginals_say_how_far_to_trust_them(sampler: str, full: bool, word: str, tmp_path: Path) -> None:
    lengths(tmp_path, missing=0 if full else 1)
    (tmp_path / "grid" / "sweep.yaml").write_text(f"spec:\n  study:\n    sampler: {sampler}\n")
    numbers = marginals.compute(read(tmp_path))
    assert numbers.names == ("stage1_epochs", "stage2_epochs")
    assert word in marginals.caption(numbers)
    assert numbers.biased == (sampler == "tpe")
    if full:
        np.testing.assert_allclose(np.diff(numbers.panels[0].mean), [0.1, 0.1])
    assert len(marginals.figure(numbers).axes) == 2


def test_hours_count_failed_trials_and_say_what_is_unknown(tmp_path: Path) -> None:
    records = [trial(0, device_seconds=1800.0), trial(1, device_seconds=1800.0, status="failed"), trial(2)]
    write_trials(tmp_path / "a", records)
    numbers = device_hours.compute(read(tmp_path))
    assert (numbers.sweep, numbers.hours.tolist(), numbers.trials, numbers.unknown) == (("a",), [1.0], (2,), 1)
    axes = Figure().subplots()
    device_hours.draw(numbers, axes)
    assert [bar.get_width() for bar in axes.patches] == [1.0]
