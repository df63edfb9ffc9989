"""`make paper`: its list names what is there and leaves nothing out in silence; a failed sweep does not end it."""

import shlex
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import paper
from benchmarks.paper import PaperSweep, read_list, run_all, sweep_command
from spd_ray import sweep
from spd_ray.base.errors import UserError
from spd_ray.config import METHODS
from spd_ray.config.load import load_spec
from spd_ray.records.provenance import write_sweep_yaml
from spd_ray.records.trials import write_trials
from tests.hand_made_sweep import trial

PAPER = sorted(f"search_spaces/paper/{file.name}" for file in (paper.ROOT / "search_spaces/paper").iterdir())


def test_every_space_of_the_paper_is_swept_or_left_out_with_the_reason():
    plan = read_list()
    spaces = {one.space for one in plan.sweeps}
    assert set(PAPER) == {space for space in spaces if "/paper/" in space} | plan.left_out.keys()
    assert not spaces & plan.left_out.keys()
    assert all(reason.strip() for reason in plan.left_out.values())


PLAN = read_list().plan(full=True)


@pytest.mark.parametrize("listed", PLAN, ids=lambda listed: listed.folder_name)
def test_every_command_is_one_that_the_sweep_takes(listed, tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "best_settings", lambda search: [])
    words = sweep_command(listed, tmp_path)
    assert words[1:3] == ["-m", "spd_ray.sweep"]
    options = sweep.parse_arguments(words[3:])
    overrides = [*options.overrides, *([f"name={options.name}"] if options.name else [])]
    spec = load_spec(paper.ROOT / options.space, overrides, options.method, options.profile)
    assert spec.name == listed.folder_name
    assert spec.task.name.startswith("mini_")


def test_no_two_sweeps_share_a_folder():
    names = [listed.folder_name for listed in PLAN]
    assert len(set(names)) == len(names)


def test_some_of_the_sweeps_can_be_named():
    names = [listed.folder_name for listed in read_list().plan(only="compare_9*")]
    assert names == ["search_compare_90", "compare_90", "search_compare_95", "compare_95"]
    with pytest.raises(UserError, match=r"--only compare_7: no such sweep; there are fig02, .*compare_5000"):
        read_list().plan(only="compare_7")


def test_the_best_of_a_search_is_run_under_other_seeds(tmp_path):
    listed = PaperSweep(space="search_spaces/paper/table2.yaml", profile="mini", best_under=(1, 2, 3))
    search, best = paper.search_and_best(listed)
    assert (search.folder_name, search.set) == ("search_table2", ("study.seeds=[0]", "checkpoints.keep=1"))
    assert (best.folder_name, best.best_of) == ("table2", "search_table2")
    spec = load_spec(paper.ROOT / listed.space, ["name=search_table2", *search.set], profile="mini")
    folder = tmp_path / "search_table2"
    points = [{"method": m, "target_sparsity": s, "stage1_lr": r} for m, s, r in (
        ("spd", 0.9, 1e-3), ("spd", 0.9, 3.2e-3), ("spd", 0.95, 1e-3), ("tinybert4", 0.9, 1e-4),
        ("tinybert4", 0.9, 1e-3), ("rpp", 0.884, 1e-4),
    )]  # fmt: skip
    configs = [spec.trial_config(point, 0) for point in points]
    write_trials(folder, [
        trial(number, method=one.method.name, target_sparsity=one.method.final_sparsity, best_score=score,
              status=status, config=one.model_dump_json())
        for number, (one, score, status) in enumerate(zip(
            configs, (0.8, 0.9, 0.7, 0.5, 0.6, 0.9), (*["finished"] * 5, "failed"), strict=True))
    ])  # fmt: skip
    write_sweep_yaml(spec, folder, "", [], {})
    words = sweep_command(best, tmp_path)[3:]
    options = sweep.parse_arguments(words)
    chosen = load_spec(paper.ROOT / options.space, options.overrides, profile=options.profile)
    assert chosen.first_points() == [points[1], points[2], points[4]]  # rpp has no finished trial
    assert (chosen.total_configurations(), chosen.study.seeds, chosen.name) == (3, (1, 2, 3), "table2")


def test_a_table_is_swept_on_another_task_by_its_name_also_on_the_miniature():
    spec = load_spec(paper.ROOT / "search_spaces/paper/table1.yaml", ["task.name=stsb"], profile="mini")
    assert (spec.task.name, spec.method.p0, spec.method.stage23_lr) == ("mini_similarity", 0.8, None)
    assert spec.search["stage1_lr"].choices == (1e-4, 3e-4, 1e-3, 3.2e-3, 1e-2)


def test_all_methods_are_compared_at_as_many_settings_each():
    spec = load_spec(paper.ROOT / "search_spaces/compare_mini.yaml")
    tried = Counter(point["method"] for point in spec.grid())
    assert tried == dict.fromkeys(METHODS, 5)
    assert (spec.task.selection, spec.total_configurations()) == ("holdout", 5 * len(METHODS))


def test_the_best_of_nothing_is_told_and_the_others_run(monkeypatch, tmp_path, capsys):
    ran = ended_with(monkeypatch, {})
    best = PaperSweep(space="b.yaml", best_of="search_b")
    assert run_all([SWEEPS[0], best, SWEEPS[2]], tmp_path, "AGAIN") == 1
    assert ran == ["a", "c", "analysis"]
    assert "failed: b (search_b has no finished trial, of which one could be the best); go" in capsys.readouterr().err


def test_what_was_begun_is_resumed(tmp_path):
    listed = PaperSweep(space="search_spaces/paper/depth.yaml", name="depth_8", set=("model.name=miniature-8",))
    assert shlex.join(sweep_command(listed, tmp_path)[1:]) == (
        f"-m spd_ray.sweep --space search_spaces/paper/depth.yaml --storage {tmp_path} --name depth_8 "
        "--set model.name=miniature-8"
    )
    write_trials(tmp_path / "depth_8", [trial(0)])
    assert sweep_command(listed, tmp_path)[-1] == "--resume"


def ended_with(monkeypatch, codes):
    """Commands that end with these exit codes, by a word of theirs; returns those that were run."""
    ran = []

    def run_command(words):
        ran.append(Path(words[4]).stem if "--space" in words else words[2])
        return codes.get(ran[-1], 0)

    monkeypatch.setattr(paper, "run_command", run_command)
    return ran


SWEEPS = tuple(PaperSweep(space=f"{name}.yaml") for name in ("a", "b", "c"))


def test_a_failed_sweep_is_told_at_the_end_and_the_others_run(monkeypatch, tmp_path, capsys):
    ran = ended_with(monkeypatch, {"b": 2, "analysis": 2})
    assert run_all(SWEEPS, tmp_path, "AGAIN") == 1
    assert ran == ["a", "b", "c", "analysis"]
    said = capsys.readouterr()
    assert [line.split(" (")[0] for line in said.out.splitlines()[:3]] == [
        f"== sweep {number} of 3: {name}" for number, name in ((1, "a"), (2, "b"), (3, "c"))
    ]
    assert said.err == "failed: b (exit code 2), report (exit code 2); go on with what is left: AGAIN\n"


def test_all_is_well_or_stopped(monkeypatch, tmp_path, capsys):
    assert ended_with(monkeypatch, {}) == []
    assert run_all(SWEEPS, tmp_path, "AGAIN") == 0
    ran = ended_with(monkeypatch, {"b": 130})
    assert run_all(SWEEPS, tmp_path, "AGAIN") == 130
    assert ran == ["a", "b"]
    said = capsys.readouterr()
    assert (said.out.splitlines()[-1], said.err) == ("stopped; go on with: AGAIN", "")


def test_a_command_returns_its_exit_code():
    assert paper.run_command([sys.executable, "-S", "-c", "raise SystemExit(3)"]) == 3
