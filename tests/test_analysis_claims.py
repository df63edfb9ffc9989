"""The paper's claims against hand-made sweeps in which each is true, false or undecided, or has no data."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hand_made_sweep import (
    METHODS,
    RATES,
    Cell,
    batch,
    prunes,
    read,
    trial,
    varied,
    write_cells,
    write_paper,
    write_steps,
)

from analysis.paper import claims
from analysis.paper.verdicts import CONTRADICTED, NO_DATA, REPRODUCED, UNDECIDED, Result
from spd_ray.records.trials import read_trials, write_trials

FIGURES = ["fig02", "fig02_without_kd", "fig02", "fig02_without_kd", "fig08", "fig06", "fig06", "fig07", "fig08",
           "fig08", "fig09", "fig10", "fig11", "fig12"]  # fmt: skip


def examine(root: Path) -> list[Result]:
    return claims.examine(read(root))


def of(root: Path, figure: str) -> list[Result]:
    """The rows of one figure's claims, in the order of the report."""
    return [result for result in examine(root) if result.figure in (figure, f"{figure} (b)", f"{figure} (c)")]


# claim -> (figure, index among its rows, sweep, common columns, cells as a function of the effect's size and sign)
Cells = Callable[[float], list[Cell]]


CASES: dict[str, tuple[str, int, str, dict, Cells]] = {
    "train rises, dev stalls": ("2", 0, "fig02", {}, lambda e: [
        Cell(prunes("kd_only", s), 0.8, train_rise=e, dev_rise=0.0) for s in (0.5, 0.9)]),
    "the same without KD": ("2", 1, "fig02_without_kd", {}, lambda e: [
        Cell(prunes("finetune_prune", s), 0.8, train_rise=e, dev_rise=0.0) for s in (0.5, 0.9)]),
    "the gap widens": ("2", 2, "fig02", {}, lambda e: [
        Cell(prunes("kd_only", s), 0.8, 0.9 + e * s) for s in (0.0, 0.5, 0.9)]),
    "it widens without KD": ("2", 3, "fig02_without_kd", {}, lambda e: [
        Cell(prunes("finetune_prune", s), 0.8, 0.9 + e * s) for s in (0.0, 0.5, 0.9)]),
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
    "SPD at half": ("Table 1", 0, "table1", {"target_sparsity": 0.5}, lambda e: [
        Cell({"method": m}, 0.7 + e * (m == "spd")) for m in ("spd", "theseus", "pkd")]),
    "SPD and its teacher": ("Table 1", 1, "table1", {"target_sparsity": 0.5, "task": "cola"}, lambda e: [
        Cell({"method": m}, 0.9 + e) for m in ("spd", "theseus")]),
    "SPD at a tenth": ("Table 2", 0, "table2", {"target_sparsity": 0.9}, lambda e: [
        Cell({"method": m}, 0.7 + e * (m == "spd")) for m in ("spd", "tinybert4")]),
    "SPD and RPP": ("Table 2", 1, "table2", {}, lambda e: [
        Cell(prunes("spd", 0.9), 0.7 + e), Cell(prunes("spd", 0.884), 0.7 - e), Cell(prunes("rpp", 0.884), 0.7)]),
    "SPD and SparseBERT": ("Table 2", 2, "table2", {"target_sparsity": 0.95}, lambda e: [
        Cell({"method": m}, 0.7 + e * (m == "spd")) for m in ("spd", "sparsebert")]),
    "SPD at a twentieth": ("Table 2", 3, "table2", {"target_sparsity": 0.95}, lambda e: [
        Cell({"method": m}, 0.7 + e * (m == "spd")) for m in ("spd", "tinybert4")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("effect", "expected"), [(0.04, REPRODUCED), (-0.04, CONTRADICTED)])
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
    assert f"{sweep}: {common.get('task', 'mini_entailment')}" in result.data
    assert "stands at a family-wise 5%" in result.detail
    assert (result.estimate.low > 0) == (effect > 0)


@pytest.mark.parametrize("name", CASES)
def test_a_claim_in_noise_is_undecided_and_says_what_the_study_finds(name: str, tmp_path: Path) -> None:
    figure, index, sweep, common, cells = CASES[name]
    write_cells(tmp_path, sweep, cells(0.002), noise=0.05, **common)
    result = of(tmp_path, figure)[index]
    assert result.verdict == UNDECIDED, result
    assert result.estimate is not None
    assert result.estimate.low < 0 < result.estimate.high
    assert result.detail.startswith("with these 5 seeds a difference of 0.")
    assert "is found with 80% power; 0.0" in result.detail
    assert "more seed" not in result.detail  # nothing is promised


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(seeds: int, tmp_path: Path) -> None:
    write_cells(tmp_path, "fig07", [Cell(varied(p0=0.0), 0.5), Cell(varied(p0=0.6), 0.9)], seeds=seeds)
    (result,) = of(tmp_path, "7")
    assert result.verdict == UNDECIDED
    one, two = "one seed has no interval; at least 3 are needed", "2 seeds decide nothing; 0.01 takes "
    assert result.detail.startswith({1: one, 2: two}[seeds])


def test_a_verdict_that_only_the_number_of_claims_explains_is_said(tmp_path: Path) -> None:
    write_cells(tmp_path, "fig07", [Cell(varied(p0=0.0), 0.70), Cell(varied(p0=0.6), 0.712)], noise=0.005)
    (alone,) = of(tmp_path, "7")
    assert alone.verdict == REPRODUCED
    assert alone.detail == "stands at a family-wise 5% (Holm over 2 claims)"
    for name in ("fig09", "fig06", "fig10"):
        _, _, sweep, common, cells = next(case for case in CASES.values() if case[2] == name)
        write_cells(tmp_path, sweep, cells(0.001), noise=0.05, **common)
    (among,) = of(tmp_path, "7")
    assert among.verdict == REPRODUCED
    assert among.detail == "does not stand at a family-wise 5% (Holm over 6 claims)"


def test_the_end_of_stage_iii_counts_and_the_best_evaluation_stands_beside_it(tmp_path: Path) -> None:
    cells = [Cell(varied(p0=0.0), 0.70), Cell(varied(p0=0.6), 0.74)]
    folder = write_cells(tmp_path, "fig07", cells)
    records = [replace(t, best_score=0.9 - 0.04 * (t.p0 > 0) + t.seed / 1000) for t in read_trials(folder)]
    write_trials(folder, records)
    (result,) = of(tmp_path, "7")
    assert result.verdict == REPRODUCED
    assert result.estimate is not None
    assert result.estimate.value == pytest.approx(0.04, abs=0.005)
    assert "At the best dev evaluation: −0.040 (−0.040 to −0.040), contradicted." in result.note


def test_near_equal_values_are_not_told_from_the_best(tmp_path: Path) -> None:
    scores = {0.2: 0.60, 0.4: 0.699, 0.6: 0.70, 1.0: 0.70}
    write_cells(tmp_path, "fig08", [Cell(varied(p0=p), score) for p, score in scores.items()])
    best, _ = of(tmp_path, "8")
    assert "at 95% (Hsu): 0.4, 0.6 and 1; 0.6 is at most 0.00" in best.note


def test_the_rates_of_a_profile_stand_for_the_papers(tmp_path: Path) -> None:
    figure, _, sweep, common, _ = CASES["3.2e-4"]
    folder = write_cells(tmp_path, sweep, [Cell(varied(stage23_lr=10 * r), s) for r, s in RATES.items()], **common)
    (without,) = of(tmp_path, figure)
    assert without.verdict == NO_DATA
    (folder / "sweep.yaml").write_text("spec: {rates_times: 10.0}\n")
    (result,) = of(tmp_path, figure)
    assert result.verdict == REPRODUCED
    assert "The rates of this sweep are 10 times the paper's: 1e-3 stands for 1e-4." in result.note


@pytest.mark.parametrize(("dev_rise", "expected"), [
    (0.005, REPRODUCED), (-0.005, REPRODUCED), (0.05, CONTRADICTED), (-0.05, CONTRADICTED)])  # fmt: skip
def test_dev_stalls_where_its_rise_is_within_the_margin_and_not_where_it_is_merely_smaller(
    dev_rise: float, expected: str, tmp_path: Path
) -> None:
    cells = [Cell(prunes("kd_only", s), 0.8, train_rise=0.2, dev_rise=dev_rise) for s in (0.5, 0.9)]
    write_cells(tmp_path, "fig02", cells)
    assert of(tmp_path, "2")[0].verdict == expected


def test_tinybert6_on_rte_is_no_part_of_the_claim_on_table_1(tmp_path: Path) -> None:
    for task in ("rte", "cola"):
        cells = [Cell({"method": m}, s) for m, s in (("spd", 0.722), ("tinybert6", 0.8), ("pkd", 0.665))]
        write_cells(tmp_path, f"table1_{task}", cells, target_sparsity=0.5, task=task)
    verdicts = {result.data.split(":")[0]: result.verdict for result in of(tmp_path, "Table 1")[:2]}
    assert verdicts == {"table1_cola": CONTRADICTED, "table1_rte": REPRODUCED}  # Table 1: 73.4 against 72.2 on RTE


def test_where_a_holdout_chose_a_table_is_asked_of_dev(tmp_path: Path) -> None:
    write_trials(tmp_path / "table1", [
        trial(number, seed, method=method, selection="holdout", target_sparsity=0.5, best_score=0.9, final_score=0.9,
              dev_score=score) for number, (method, score) in enumerate((("spd", 0.6), ("pkd", 0.8)))
        for seed in range(4)])  # fmt: skip
    claim, _ = of(tmp_path, "Table 1")
    assert claim.verdict == CONTRADICTED
    assert claim.estimate is not None
    assert claim.estimate.value == pytest.approx(-0.2)
    assert "scores on dev, which a holdout has not chosen by" in claim.note


def test_without_data_each_claim_says_which_space_makes_it(tmp_path: Path) -> None:
    write_trials(tmp_path / "other", [trial(0), trial(1, metric="f1")])
    write_trials(tmp_path / "another", [trial(0)])
    results = examine(tmp_path)
    assert len(results) == 20
    assert {result.verdict for result in results} == {NO_DATA}
    spaces = [*FIGURES, *["table1"] * 2, *["table2"] * 4]
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
    rises, _, widens, _ = of(tmp_path, "2")
    assert rises.verdict == NO_DATA
    assert "cannot be read" in rises.detail
    assert widens.verdict == NO_DATA  # the gap at the end is read from the steps, too
    assert "cannot be read" in widens.detail


def test_all_claims_hold_in_the_hand_made_paper(tmp_path: Path) -> None:
    results = examine(write_paper(tmp_path))
    assert [result.verdict for result in results] == [REPRODUCED] * 22  # Table 1's two on two tasks


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
    assert after.verdict == CONTRADICTED
    assert after.estimate is not None
    assert after.estimate.value == 0.5
    assert f"0-s1: {what}" in after.detail
