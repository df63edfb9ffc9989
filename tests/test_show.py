"""`python -m spd_ray.show`: the leaderboard, the path for scripts, JSON, and refusals, on sweeps written by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hand_made_sweep import trial, varied

from analysis.numbers import leaderboard
from analysis.reading.sweeps import read_sweep
from spd_ray.base.errors import UserError
from spd_ray.records.trials import write_trials
from spd_ray.show import main

ROOT = Path(__file__).parents[1]
SPEC = "spec: {study: {sampler: tpe}, search: {p0: {low: 0, high: 1}, target_sparsity: {choices: [0.8, 0.95]}}}"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two configurations at 0.95 under two seeds each, one at 0.8 that scores more; the best at 0.95 was not kept."""
    folder = tmp_path / "runs" / "mine"

    def one(configuration: int, seed: int, score: float, p0: float, sparsity: float = 0.95, kept: bool = True):
        name = f"{configuration}-s{seed}"
        return trial(
            configuration, seed, best_score=score, **{**varied(p0=p0), "target_sparsity": sparsity},
            dev_score=score - 0.01, checkpoint=f"checkpoints/{name}" if kept else None, achieved_sparsity=sparsity,
        )  # fmt: skip

    write_trials(
        folder,
        [
            one(0, 0, 0.70, 0.2), one(0, 1, 0.74, 0.2),
            one(1, 0, 0.60, 0.6), one(1, 1, 0.80, 0.6, kept=False),
            one(2, 0, 0.90, 0.4, sparsity=0.8),
            trial(3, status="running", best_score=0.99), trial(4, status="failed", best_score=0.98),
        ],
    )  # fmt: skip
    (folder / "sweep.yaml").write_text(SPEC)
    return folder


def test_rows_are_by_sparsity_and_the_best_student_leads(sweep: Path) -> None:
    board = leaderboard.compute(read_sweep(sweep))
    assert board.dimensions == ("p0",)
    low, high = board.boards
    assert (low.sparsity, [row.configuration for row in low.rows]) == (0.8, [2])
    assert [(row.configuration, row.values["p0"]) for row in high.rows] == [(1, 0.6), (0, 0.2)]
    first, second = high.rows
    assert (first.mean, first.deviation) == (pytest.approx(0.7), pytest.approx(0.1414, abs=1e-4))
    assert (second.mean, second.deviation) == (pytest.approx(0.72), pytest.approx(0.0283, abs=1e-4))
    assert low.rows[0].deviation is None
    assert (high.best.trial.trial_id, high.kept.trial.trial_id) == ("1-s1", "0-s1")


def test_a_ladders_levels_have_rows_of_their_own(tmp_path: Path) -> None:
    levels = [
        {"sparsity": s, "score": s, "train_score": 0.9, "checkpoint": f"checkpoints/0-s0-{s}"} for s in (0.5, 0.7)
    ]
    kept = trial(0, ladder=json.dumps(levels), checkpoint="checkpoints/0-s0", best_score=0.6)
    dropped = trial(1, ladder=json.dumps(levels), checkpoint=None, best_score=0.8)
    write_trials(tmp_path, [kept, dropped])
    boards = {board.sparsity: board for board in leaderboard.compute(read_sweep(tmp_path)).boards}
    assert sorted(boards) == [0.5, 0.7, 0.9]
    assert [row.kept and row.kept.checkpoint for row in boards[0.5].rows] == ["checkpoints/0-s0-0.5", None]
    assert boards[0.9].best.score == 0.8


def test_the_table(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep), "--sparsity", "0.95", "--rows", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "sweep mine: trials 5 finished, 1 running, 1 failed"
    assert lines[1] == "mini_entailment, dev accuracy: dense teacher 0.9000, majority class 0.5000"
    heading, row = (line.split() for line in lines[4:6])
    assert heading == ["trial", "mean", "+-", "n", "best", "dev", "achieved", "p0", "checkpoint"]
    assert row == [
        "1",
        "1-s1",
        "0.7000",
        "0.1414",
        "2",
        "0.8000",
        "0.7900",
        "0.9500",
        "0.6",
        f"{sweep}/checkpoints/1-s0",
    ]
    assert lines[6:] == ["1 more: --rows 2", f"best checkpoint: {sweep}/checkpoints/0-s1"]


def test_the_path_alone_is_on_stdout(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"file://{sweep}", "--sparsity", "0.95", "--path"]) == 0
    out, err = capsys.readouterr()
    assert out == f"file://{sweep}/checkpoints/0-s1\n"
    assert "1-s1 scored 0.8000, but its student was not kept" in err
    with pytest.raises(UserError, match=r"several sparsities, 0\.8, 0\.95; choose one with --sparsity"):
        main([str(sweep), "--path"])


def test_json_has_every_student(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["trials"] == {"finished": 5, "running": 1, "failed": 1}
    assert [board["sparsity"] for board in data["boards"]] == [0.8, 0.95]
    row = data["boards"][1]["rows"][0]
    assert (row["values"], row["checkpoint"]) == ({"p0": 0.6}, f"{sweep}/checkpoints/1-s0")
    assert [(one["trial"], one["score"], one["checkpoint"]) for one in row["students"]] == [
        ("1-s1", 0.8, None), ("1-s0", 0.6, f"{sweep}/checkpoints/1-s0"),
    ]  # fmt: skip


def test_nothing_yet_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trials(tmp_path, [trial(0, status="running")])
    assert main([str(tmp_path)]) == 1
    assert main([str(tmp_path), "--path"]) == 1
    out, err = capsys.readouterr()
    assert "no trial has ended with a student" in out.splitlines()[-1]
    assert err.startswith("no trial has ended with a student")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sparsity", "0.5"], "--sparsity 0.5: no student was asked for at it; there are 0.8, 0.95"),
        (["--rows", "0"], "--rows 0: at least 1"),
    ],
)
def test_refusals(arguments: list[str], says: str, sweep: Path) -> None:
    with pytest.raises(UserError, match=says):
        main([str(sweep), *arguments])
    with pytest.raises(UserError, match="these sweeps: mine; show one of them"):
        main([str(sweep.parent)])


SHOW = """
import sys
from spd_ray import show
try:
    show.run()
finally:
    print(*[name for name in ("torch", "ray", "mlflow", "optuna", "matplotlib", "scipy") if name in sys.modules])
"""


def test_the_command_is_light_and_refuses_in_one_line(sweep: Path) -> None:
    def run(place: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SHOW, str(place), "--sparsity", "0.8", "--path"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    done = run(sweep)
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"{sweep}/checkpoints/2-s0", ""]), done.stderr
    done = run(sweep / "nowhere")
    assert (done.returncode, done.stderr) == (
        2, f"error: {sweep}/nowhere: no such folder; give one that holds sweeps, such as runs\n",
    )  # fmt: skip
