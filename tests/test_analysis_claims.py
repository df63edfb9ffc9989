"""The paper's claims against hand-made sweeps in which each is true, false or undecided, or has no data."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hand_made_sweep import METHODS, RATES, Cell, batch, read, trial, varied, write_cells, write_paper, write_steps

from analysis.paper import claims
from analysis.paper.claims import NO_DATA, NOT_REPRODUCED, REPRODUCED, UNDECIDED, Result
from spd_ray.records.trials import write_trials


def examine(root: Path) -> list[Result]:
    return claims.examine(read(root))


def of(root: Path, figure: str) -> list[Result]:
    """The rows of one figure's claims."""
    return [result for result in examine(root) if result.figure.split()[0] == figure]


def prunes(sparsity: float) -> dict:
    return {"method": "finetune_prune", "grafting": "none", "target_sparsity": sparsity}


# claim -> (figure, index among its rows, sweep, common columns, cells as a function of the effect's size and sign)
Cells = Callable[[float], list[Cell]]


CASES: dict[str, tuple[str, int, str, dict, Cells]] = {
    "train rises, dev stalls": ("2", 0, "fig02", {}, lambda e: [
        Cell(prunes(s), 0.8, train_rise=0.05 + e, dev_rise=0.05) for s in (0.5, 0.9)]),
    "the gap widens": ("2", 1, "fig02", {}, lambda e: [Cell(prunes(s), 0.8, 0.9 + e * s) for s in (0.0, 0.5, 0.9)]),
    "the gaps shrink": ("6", 0, "fig06", {}, lambda e: [
        Cell({"method": m}, 0.7 + e * i) for i, m in enumerate(METHODS)]),
    "KD matters more": ("6", 1, "fig06", {}, lambda e: [
        Cell({"method": m}, 0.7 + e * (m == "kd_only")) for m in METHODS]),
    "grafting in Stage I": ("7", 0, "fig07", {}, lambda e: [
        Cell(varied(p0=0.0), 0.7), Cell(varied(p0=0.6), 0.7 + e)]),
    "p0 = 0.6": ("8", 0, "fig08", {}, lambda e: [
        Cell(varied(p0=p), 0.7 + e * (p == 0.6)) for p in (0.4, 0.6, 0.8, 1.0)]),
    "progressive": ("8", 1, "fig08", {}, lambda e: [
        Cell(varied(p0=p), 0.7 - e * (p == 1)) for p in (0.4, 0.6, 0.8, 1.0)]),
    "two decays": ("9", 0, "fig09", {}, lambda e: [
        Cell({"lr_schedule": "two_decays"}, 0.7 + e), Cell({"lr_schedule": "one_decay"}, 0.7)]),
    "pruning till t1": ("10", 0, "fig10", {}, lambda e: [
        Cell(varied(pruning_end=x), 0.7 + e * (x == 1)) for x in (0.5, 1.0, 1.5)]),
    "3.2e-4": ("11", 0, "fig11", {}, lambda e: [
        Cell(varied(stage23_lr=r), 0.7 + e * (r == 3.2e-4)) for r in RATES]),
    "4.0e-4": ("12", 0, "fig12", {"metric": "spearman"}, lambda e: [
        Cell(varied(stage23_lr=r), 0.7 + e * (r == 4e-4)) for r in (1e-4, 4e-4, 6.4e-4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("effect", "expected"), [(0.04, REPRODUCED), (-0.04, NOT_REPRODUCED)])
def test_a_claim_is_reproduced_where_it_is_true_and_refused_where_it_is_false(
    name: str, effect: float, expected: str, tmp_path: Path
) -> None:
    figure, index, sweep, common, cells = CASES[name]
    write_cells(tmp_path, sweep, cells(effect), **common)
    result = of(tmp_path, figure)[index]
    assert result.verdict == expected, result
    assert result.estimate is not None
    assert result.estimate.paired
    assert result.estimate.n == 5
    assert f"{sweep}: mini_entailment" in result.data
    assert (result.estimate.low > 0) == (effect > 0)


@pytest.mark.parametrize("name", CASES)
def test_a_claim_in_noise_is_undecided_and_says_how_many_more_seeds(name: str, tmp_path: Path) -> None:
    figure, index, sweep, common, cells = CASES[name]
    write_cells(tmp_path, sweep, cells(0.002), noise=0.05, **common)
    result = of(tmp_path, figure)[index]
    assert result.verdict == UNDECIDED, result
    assert result.estimate is not None
    assert result.estimate.low < 0 < result.estimate.high
    assert "more seed" in result.detail or "more than 1,000 seeds" in result.detail


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(seeds: int, tmp_path: Path) -> None:
    write_cells(tmp_path, "fig07", [Cell(varied(p0=0.0), 0.5), Cell(varied(p0=0.6), 0.9)], seeds=seeds)
    (result,) = of(tmp_path, "7")
    assert result.verdict == UNDECIDED
    assert result.detail == {1: "at least 2 more seeds", 2: "about 1 more seed"}[seeds]


def test_without_data_each_claim_says_which_space_makes_it(tmp_path: Path) -> None:
    write_trials(tmp_path / "other", [trial(0), trial(1, metric="f1")])
    write_trials(tmp_path / "another", [trial(0)])
    results = examine(tmp_path)
    assert len(results) == 12
    assert {result.verdict for result in results} == {NO_DATA}
    spaces = [
        "fig02",
        "fig02",
        "fig08",
        "fig06",
        "fig06",
        "fig07",
        "fig08",
        "fig08",
        "fig09",
        "fig10",
        "fig11",
        "fig12",
    ]
    for result, space in zip(results, spaces, strict=True):
        assert f"search_spaces/paper/{space}.yaml makes the data" in result.detail
        assert (result.data, result.estimate) == ("none", None)


def test_a_grid_without_the_claimed_value_gives_no_verdict(tmp_path: Path) -> None:
    write_cells(tmp_path, "fig11", [Cell(varied(stage23_lr=r), 0.7) for r in (1e-3, 3e-3)])
    (result,) = of(tmp_path, "11")
    assert result.verdict == NO_DATA
    assert "the data have no 3.2e-4, only 1e-3 and 3e-3" in result.detail


def test_a_missing_strategy_gives_no_verdict_on_the_order(tmp_path: Path) -> None:
    write_cells(tmp_path, "fig06", [Cell({"method": m}, 0.7 + 0.04 * i) for i, m in enumerate(METHODS[:3])])
    order, kd = of(tmp_path, "6")
    assert order.verdict == NO_DATA
    assert "the data have no spd" in order.detail
    assert kd.verdict == REPRODUCED


def test_values_that_met_different_settings_decide_nothing(tmp_path: Path) -> None:
    write_cells(tmp_path, "demo", [Cell(varied(p0=p, stage1_lr=p / 10), 0.7 + 0.1 * (p == 0.6)) for p in (0.4, 0.6)])
    best, _ = of(tmp_path, "8")
    assert best.verdict == UNDECIDED
    assert best.estimate is None
    assert "its values met different stage1_lr" in best.detail


def test_a_broken_part_leaves_its_claims_without_data_and_the_others_as_they_are(tmp_path: Path) -> None:
    write_cells(tmp_path, "fig02", CASES["the gap widens"][4](0.04))
    next((tmp_path / "fig02" / "steps").rglob("*.parquet")).write_bytes(b"PAR1")
    rises, widens = of(tmp_path, "2")
    assert rises.verdict == NO_DATA
    assert "cannot be read" in rises.detail
    assert widens.verdict == REPRODUCED


def test_all_claims_hold_in_the_hand_made_paper(tmp_path: Path) -> None:
    assert [result.verdict for result in examine(write_paper(tmp_path))] == [REPRODUCED] * 12


@pytest.mark.parametrize(("change", "what"), [
    ({"p": 0.9}, "p is not that of Eq. (5)"),
    ({"sparsity": 0.95}, "pruning does not end with Stage I"),
    ({"learning_rate": 1.0}, "the learning rate does not decay once"),
])  # fmt: skip
def test_schedules_that_depart_from_figure_4_are_refused(change: dict, what: str, tmp_path: Path) -> None:
    folder = write_cells(tmp_path, "fig08", [Cell(varied(p0=0.5), 0.7)], seeds=2)
    (before,) = of(tmp_path, "4")
    assert before.verdict == REPRODUCED
    assert before.estimate is not None
    assert before.estimate.n == 2
    write_steps(folder, "0-s1", 7, 8, [batch(7, **change)])  # a later part, which counts
    (after,) = of(tmp_path, "4")
    assert after.verdict == NOT_REPRODUCED
    assert after.estimate is not None
    assert after.estimate.value == 0.5
    assert f"0-s1: {what}" in after.detail
