"""The paper's other figures and tables on hand-made sweeps: their numbers, and the artists that carry them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made_sweep import METHODS, RATES, Cell, evaluation, searched, trial, write_cells, write_steps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.beyond import device_hours as hours
from analysis.beyond import gap_by_sparsity as gaps
from analysis.beyond import grafting_by_depth as depth
from analysis.beyond import heat_maps as heat
from analysis.beyond import importances, marginals, pareto
from analysis.drawing import style
from analysis.errors import NoData
from analysis.figures import fig02, fig06, fig07, fig08, fig09, fig10, fig11, fig12, fig13_to_16
from analysis.numbers import by_value as sensitivity
from analysis.numbers import figure_data as sources
from analysis.numbers import over_steps as overtime
from analysis.numbers import statistics
from analysis.page.result_tables import board, printed
from analysis.page.table import Link, Sheet, html, markdown
from analysis.paper import printed as paper
from analysis.paper import tables_1_and_2 as scoreboard
from analysis.reading.sweeps import Tables, read_sweeps
from spd_ray.records import write_trials


def read(root: Path) -> list[Tables]:
    return read_sweeps(root, pytest.fail)


def labels(axes: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in axes.get_lines()}


def two(root: Path, name: str, first: dict, second: dict, **common: Any) -> list[Tables]:
    write_cells(root, name, [Cell(first, 0.7), Cell(second, 0.8)], noise=0.0, **common)
    return read(root)


def test_curves_are_means_over_the_evaluations_that_all_seeds_share(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, 0), trial(0, 1)])
    write_steps(
        tmp_path, "0-s0", 0, 8, [evaluation(step, "dev", value) for step, value in ((2, 0.1), (4, 0.5), (8, 0.9))]
    )
    write_steps(
        tmp_path, "0-s1", 0, 8, [evaluation(step, "dev", value) for step, value in ((4, 0.7), (6, 0.1), (8, 0.8))]
    )
    (tables,) = read(tmp_path)
    curve = overtime.curve(tables, tables.trials, None)
    assert curve.step.tolist() == [4, 8]
    np.testing.assert_allclose(curve.mean, [0.6, 0.85])
    assert (curve.low.tolist(), curve.high.tolist(), curve.n) == ([0.5, 0.8], [0.7, 0.9], 2)
    assert len(overtime.curve(tables, tables.trials, "train").step) == 0


def test_students_chosen_on_a_holdout_are_shown_on_it(tmp_path: Path) -> None:
    sweeps = two(tmp_path, "fig07", searched(p0=0.0), searched(p0=0.6), selection="holdout")
    numbers = fig07.compute(sweeps)
    axes = Figure().subplots()
    fig07.draw(numbers, axes)
    assert axes.get_ylabel() == "Holdout accuracy (0 to 1)"
    assert len(numbers.groups[0].selected.step) == 4
    assert fig07.caption(numbers).startswith("Holdout score")


def test_fig02_numbers_and_panels(tmp_path: Path) -> None:
    cells = [Cell({"method": "finetune_prune", "target_sparsity": s}, 0.8, 0.9 + 0.1 * s) for s in (0.0, 0.5)]
    write_cells(tmp_path, "fig02", [*cells, Cell({"method": "spd", "target_sparsity": 0.9}, 0.1)], noise=0.0)
    numbers = fig02.compute(read(tmp_path))
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
    assert fig06.missing(numbers) == ["finetune_prune", "progressive_only"]
    assert "No data for (a) and (b)." in fig06.caption(numbers)
    axes = Figure().subplot_mosaic([["a", "b"], ["c", "d"], ["e", "e"]])
    fig06.draw(numbers, axes)
    assert [text.get_text() for text in axes["a"].texts] == ["no data"]


@pytest.mark.parametrize(("module", "first", "second", "names"), [
    (fig07, searched(p0=0.0), searched(p0=0.6), ["$p_0$ = 0 (n = 5)", "$p_0$ > 0 (n = 5)"]),
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
    assert to_hex(drawn[names[0]].get_color()) == style.INSTEAD.lower()
    assert drawn[names[0]].get_linestyle() == "--"
    assert len(axes.collections) == 2


def test_fig08_marks_the_non_progressive_design_where_it_was_run(tmp_path: Path) -> None:
    axes = Figure().subplots(2)
    for place, last in enumerate((1.0, 0.9)):
        root = tmp_path / str(place)
        fig08.draw(fig08.compute(two(root, "fig08", searched(p0=0.6), searched(p0=last))), axes[place])
    assert "non-progressive, $p_0$ = 1" in labels(axes[0])
    assert "non-progressive, $p_0$ = 1" not in labels(axes[1])


@pytest.mark.parametrize(("module", "key", "values", "common"), [
    (fig10, "pruning_end", (0.5, 1.0), {}),
    (fig11, "stage23_lr", (1e-4, 3.2e-4), {}),
    (fig12, "stage23_lr", (1e-4, 4e-4), {"metric": "spearman"}),
])  # fmt: skip
def test_grids_over_steps_and_by_best_score(module: Any, key: str, values: tuple, common: dict, tmp_path: Path) -> None:
    numbers = module.compute(two(tmp_path, module.NAME, *(searched(**{key: v}) for v in values), **common))
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
    sweeps = two(tmp_path, "rates", searched(stage23_lr=1e-4), searched(stage23_lr=4e-4), metric="spearman")
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


def test_a_figure_takes_its_own_sweep_and_else_says_which_it_took(tmp_path: Path) -> None:
    two(tmp_path, "demo", searched(p0=0.2), searched(p0=0.6))
    write_cells(tmp_path, "small", [Cell(searched(p0=p), 0.7) for p in (0.2, 0.6)], seeds=2)
    taken = fig08.compute(read(tmp_path))
    assert (taken.data.sweep, taken.data.own, taken.data.also) == ("demo", False, ("small",))
    text = fig08.caption(taken)
    assert "Taken from sweep demo (also possible: small); search_spaces/paper/fig08.yaml makes" in text
    two(tmp_path, "fig08_mini", searched(p0=0.4), searched(p0=0.5))
    own = fig08.compute(read(tmp_path))
    assert (own.data.sweep, own.data.own) == ("fig08_mini", True)
    assert own.value.tolist() == [0.4, 0.5]


def test_gap_lines_take_the_rungs_of_a_ladder(tmp_path: Path) -> None:
    rungs = [{"sparsity": s, "score": 0.8, "train_score": 0.8 + s / 2} for s in (0.5, 0.7, 0.9)]
    write_trials(tmp_path, [trial(0, seed, ladder=json.dumps(rungs)) for seed in range(3)])
    (line,) = gaps.compute(read(tmp_path)).lines
    assert line.sparsity.tolist() == [0.5, 0.7, 0.9]
    np.testing.assert_allclose(line.mean, [0.25, 0.35, 0.45])
    assert line.slope.value == pytest.approx(0.5)
    assert line.slope.n == 3


def test_gap_needs_two_sparsities(tmp_path: Path) -> None:
    write_cells(tmp_path, "one", [Cell({}, 0.7)])
    with pytest.raises(NoData, match=r"fig02\.yaml"):
        gaps.compute(read(tmp_path))


def test_pareto_front_and_remaining_weights(tmp_path: Path) -> None:
    cells = [Cell({"target_sparsity": s}, score) for s, score in ((0.9, 0.6), (0.8, 0.5), (0.5, 0.8))]
    write_cells(tmp_path, "sizes", cells, noise=0.0, seeds=2)
    write_trials(tmp_path / "uncounted", [trial(0)])
    numbers = pareto.compute(read(tmp_path))
    (task,) = numbers.tasks
    np.testing.assert_allclose(sorted(task.remaining), np.array([110, 210, 510]) / 1010, atol=1e-4)
    np.testing.assert_allclose(task.remaining[task.front], np.array([110, 510]) / 1010, atol=1e-4)
    assert numbers.uncounted == 1
    axes = [Figure().subplots()]
    pareto.draw(numbers, axes)
    assert labels(axes[0])["Pareto front"].get_drawstyle() == "steps-post"
    assert "1 trial without counts are not shown" in pareto.caption(numbers)


def test_pareto_takes_the_counted_weights_before_the_sparsity(tmp_path: Path) -> None:
    write_trials(
        tmp_path, [trial(0, encoder_parameters=1000, prunable_parameters=900, remaining_encoder_parameters=250)]
    )
    assert pareto.compute(read(tmp_path)).tasks[0].remaining.tolist() == [0.25]


def test_depth_pairs_the_methods_by_seed_at_each_depth(tmp_path: Path) -> None:
    for layers, gain in ((4, 0.01), (12, 0.06)):
        cells = [Cell({"method": m, "layers": layers}, 0.7 + gain * (m == "spd"), 0.9) for m in ("kd_only", "spd")]
        write_cells(tmp_path, f"depth_{layers}", cells, noise=0.0)
    numbers = depth.compute(read(tmp_path))
    assert numbers.layers == (4, 12)
    assert [estimate.value for estimate in numbers.score_gain] == pytest.approx([0.01, 0.06])
    assert [change.value for change in numbers.gap_change if change] == pytest.approx([-0.01, -0.06])
    assert all(estimate.paired and estimate.n == 5 for estimate in numbers.score_gain)
    axes = list(Figure().subplots(2))
    depth.draw(numbers, axes)
    assert [text.get_text() for text in axes[0].texts] == ["n = 5", "n = 5"]
    with pytest.raises(NoData, match=r"depth\.yaml"):
        depth.compute([])


def lengths(root: Path, missing: int = 0) -> list[Tables]:
    cells = [Cell(searched(stage1_epochs=a, stage2_epochs=b), 0.5 + a / 100 + b / 50)
             for a in (10.0, 20.0, 30.0) for b in (5.0, 10.0)]  # fmt: skip
    write_cells(root, "grid", cells[missing:], noise=0.0)
    return read(root)


def test_heat_map_cells(tmp_path: Path) -> None:
    numbers = heat.compute(lengths(tmp_path, missing=1), heat.STAGES)
    assert (numbers.x_values.tolist(), numbers.y_values.tolist()) == ([10, 20, 30], [5, 10])
    assert np.isnan(numbers.mean[0, 0])
    assert numbers.mean[1, 2] - numbers.mean[1, 0] == pytest.approx(0.2)
    assert numbers.n.tolist() == [[0, 5, 5], [5, 5, 5]]
    assert "White: 1 cell without a trial." in heat.caption(numbers)
    axes = Figure().subplots()
    heat.draw(numbers, axes)
    assert len(axes.texts) == 5
    assert axes.get_xlabel() == "Stage I (epochs)"
    with pytest.raises(NoData, match="grid sampler"):
        heat.compute(read(tmp_path), heat.INTERACTION)


def test_scattered_values_are_no_heat_map(tmp_path: Path) -> None:
    cells = [Cell(searched(stage1_epochs=10.0 + i, stage2_epochs=5.0 + i), 0.7) for i in range(6)]
    write_cells(tmp_path, "line", cells)
    with pytest.raises(NoData, match=r"stages\.yaml"):
        heat.compute(read(tmp_path), heat.STAGES)


def test_importances_find_the_dimension_that_matters(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cells = [Cell(searched(p0=float(p), stage1_epochs=float(e)), 0.5 + p / 3)
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
    numbers = hours.compute(read(tmp_path))
    assert (numbers.sweep, numbers.hours.tolist(), numbers.trials, numbers.unknown) == (("a",), [1.0], (2,), 1)
    axes = Figure().subplots()
    hours.draw(numbers, axes)
    assert [bar.get_width() for bar in axes.patches] == [1.0]


def test_half_of_bert_bases_encoder_weights_leaves_67_million() -> None:
    counts = paper.bert_counts()
    shapes = [(30_522, 768), (512, 768), (2, 768), (768,), (768,)]
    layer: Sequence[tuple[int, ...]] = [*[(768, 768)] * 4, (768, 3_072), (3_072, 768)]
    small = [*[(768,)] * 4, (3_072,), (768,), *[(768,)] * 4]  # biases, then two LayerNorms

    def size(found: Sequence[tuple[int, ...]]) -> int:
        return sum(int(np.prod(shape)) for shape in found)

    assert counts.embeddings == size(shapes)
    assert counts.prunable == 12 * size(layer) == 84_934_656
    assert counts.encoder == 12 * (size(layer) + size(small))
    assert counts.total == 109_482_240  # what the paper prints as 109M
    assert counts.remaining(0.5) == 67_014_912  # and as 67M


def test_the_count_is_that_of_the_model_itself() -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=24, max_position_embeddings=20)  # fmt: skip
    model = BertModel(config)
    counts = paper.bert_counts(2, 16, 24, 50, 20)
    assert counts.total == sum(parameter.numel() for parameter in model.parameters())
    assert counts.encoder == sum(parameter.numel() for parameter in model.encoder.parameters())


def test_printed_averages_are_those_of_the_printed_scores() -> None:
    # The paper prints 76.1 for BERT6-PKD, whose printed scores have the mean 77.2.
    averages = {0: 82.3, 2: 77.9, 4: 82.0, 5: 79.7, 7: 83.2}
    for index, average in averages.items():
        row = paper.TABLE_1[index]
        scores = [score for score in row.scores if score is not None]
        assert np.mean(scores) == pytest.approx(average, abs=0.11)


def test_the_board_sets_ours_beside_the_printed_values(tmp_path: Path) -> None:
    for task in ("rte", "mini_entailment"):
        cells = [Cell({"method": m, "remaining_parameters": 67_014_912}, 0.7) for m in ("spd", "tickets", "cr_ild")]
        write_cells(
            tmp_path, f"table1_{task}", cells, noise=0.0, task=task, target_sparsity=0.5, parameters=109_482_240
        )
    found = scoreboard.compute(read(tmp_path), "table1")
    assert found.sweeps == ("table1_mini_entailment", "table1_rte")
    cells = {(cell.task, cell.method): cell for cell in found.cells}
    ours = cells["rte", "spd"]
    assert (ours.printed, ours.printed_teacher, ours.seeds) == (0.722, 0.722, 5)
    assert ours.difference == pytest.approx(ours.mean - 0.722)
    assert ours.to_teacher == pytest.approx(ours.mean - 0.9)
    assert ours.printed_to_teacher == 0
    assert cells["rte", "tickets"].printed == 0.66
    assert cells["rte", "cr_ild"].printed is None
    mini = cells["mini_entailment", "spd"]
    assert (mini.printed, mini.difference, mini.printed_to_teacher) == (0.722, None, 0)
    text = markdown(board(found))
    assert "67M of 109M" in text
    assert "72.2 (rte)" in text
    assert "| SPD | 67M | 92.0 | 93.0 | 61.4 | 90.1 | 90.7 | 72.2 |" in markdown(printed(1))


def test_the_board_takes_dev_where_a_holdout_chose(tmp_path: Path) -> None:
    write_trials(tmp_path / "table2", [trial(0, s, selection="holdout", best_score=0.9, dev_score=0.6 + s / 10)
                                       for s in range(2)])  # fmt: skip
    (cell,) = scoreboard.compute(read(tmp_path), "table2").cells
    assert (cell.on, cell.mean) == ("dev", pytest.approx(0.65))
    write_trials(tmp_path / "table2", [trial(0, s, selection="holdout", best_score=0.9) for s in range(2)])
    (cell,) = scoreboard.compute(read(tmp_path), "table2").cells
    assert (cell.on, cell.mean) == ("holdout", pytest.approx(0.9))


def test_sheets_escape_and_mark() -> None:
    sheet = Sheet((("a", "what"), ("b", "")), (("<x>", Link("run", "https://h/#/r")), ("y|z", "1")), frozenset({1}))
    text = html(sheet)
    assert '<th scope="col" title="what">a</th>' in text
    assert '&lt;x&gt;</th><td><a href="https://h/#/r">run</a></td>' in text
    assert '<tr class="out"><th scope="row">y|z</th>' in text
    assert "| y\\|z | 1 |" in markdown(sheet)


def test_methods_keep_their_colours_and_ramps_get_lighter() -> None:
    colours = [style.method_mark(method)[0] for method in METHODS]
    assert len(set(colours)) == len(METHODS)
    assert style.method_mark("tickets") == style.method_mark("tickets")
    light = [sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in style.ramp(5)]
    assert light == sorted(light)


def test_numbers_that_agree_to_nine_digits_are_one_value(tmp_path: Path) -> None:
    sweeps = two(tmp_path, "fig08", searched(p0=0.1 + 0.2), searched(p0=0.3))
    with pytest.raises(NoData, match="only one value"):
        sensitivity.compute(sweeps, "fig08", sources.P0)


def test_the_t_quantile_is_scipys() -> None:
    from scipy.stats import t

    for freedom in (1, 2, 5, 30, 150, 500):
        for level in (0.95, 0.99):
            expected = t.ppf((1 + level) / 2, freedom)
            assert statistics.t_quantile(freedom, level) == pytest.approx(expected, rel=6e-3)


def test_dimensions_of_spd_are_not_those_of_other_methods(tmp_path: Path) -> None:
    cells = [Cell({"method": "kd_only", "p0": 1.0}, 0.7), Cell({"method": "spd", "p0": 0.6}, 0.8)]
    write_cells(tmp_path, "methods", cells)
    with pytest.raises(NoData, match=r"p₀ has only one value among the finished trials, 0\.6 \(n = 5\)"):
        fig08.compute(read(tmp_path))


def test_strategies_whose_own_trials_differ_are_called_mixed(tmp_path: Path) -> None:
    rates = [Cell({"method": m, **searched(stage1_lr=rate)}, 0.7) for m in METHODS for rate in (1e-3, 2e-3)]
    write_cells(tmp_path, "fig06", rates)
    numbers = fig06.compute(read(tmp_path))
    assert (numbers.scores.data.searched, numbers.scores.data.balanced) == (("stage1_lr",), False)
    assert "also differ in stage1_lr" in fig06.caption(numbers)
