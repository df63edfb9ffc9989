"""What a search space says: its file, method, preset, profile and overrides."""

from pathlib import Path
from random import Random

import pytest

from spd_ray.base.errors import UserError
from spd_ray.config import auto
from spd_ray.config.load import load_spec
from spd_ray.config.timeline import Timeline
from tests.spaces import SPACES, TASK, load


@pytest.mark.parametrize("file", sorted(SPACES.rglob("*.yaml")), ids=lambda file: file.name)
def test_every_space_that_is_shipped_loads_and_reads_back(file: Path, tmp_path: Path) -> None:
    spec = load_spec(file)
    assert spec.name == file.stem
    (tmp_path / "again.yaml").write_text(spec.to_yaml())
    assert load_spec(tmp_path / "again.yaml") == spec


def test_the_demo_starts_with_the_recipe_and_has_its_stage_lengths() -> None:
    spec = load_spec(SPACES / "demo.yaml")
    (recipe,) = spec.first_points()
    config = spec.trial_config(recipe, seed=1)
    assert config.method == spec.method
    assert config.seed == 1
    timeline = Timeline.of(config.method, train_examples=500)
    assert (timeline.steps_per_epoch, timeline.t1, timeline.t2, timeline.t3) == (32, 576, 896, 1472)


# Section 4.2, the appendix: p0, rate of Stages II and III, length of Stage I; what Figures 11 and 12 find.
PAPER = {"cola": (0.8, 5e-4, 30), "stsb": (0.8, 5e-4, 30), "mrpc": (0.8, 6.4e-4, 30), "rte": (0.6, 3e-5, 30)}
PAPER |= {"sst2": (0.6, 3e-5, 10), "qnli": (0.6, 3e-5, 10)}  # "chosen": as on RTE
FIGURES = {"rte": [(0.8, 3.2e-4)], "stsb": [(0.8, 4e-4)]}


@pytest.mark.parametrize("task", PAPER)
def test_the_space_of_a_task_searches_all_that_spd_depends_on(task: str) -> None:
    """Both ends of each range are beyond the paper's values, or are the paper's own ends."""
    spec = load_spec(SPACES / f"{task}.yaml")
    assert set(spec.search) == {"p0", "stage1_epochs", "stage2_epochs", "stage1_lr", "stage23_lr", "pruning_end"}
    papers = {
        "p0": [round(0.1 * tenth, 1) for tenth in range(1, 11)],
        "stage1_epochs": [10, 20, 30],
        "stage2_epochs": [10],
        "stage1_lr": [3e-5],
        "stage23_lr": [3e-5, 1e-4, 3.2e-4, 4e-4, 5e-4, 6.4e-4],
        "pruning_end": [0.5, 0.75, 1.0, 1.25],
    }
    outside = [(name, value) for name in papers for value in papers[name] if not spec.search[name].contains(value)]
    assert outside == []
    random = Random(0)
    assert sum(spec.is_possible(spec.random_point(random)) for _ in range(100)) > 80


@pytest.mark.parametrize("task", PAPER)
def test_the_papers_setting_of_a_task_is_run_first(task: str) -> None:
    spec = load_spec(SPACES / f"{task}.yaml")
    p0, stage23_lr, stage1_epochs = PAPER[task]
    expected = {"p0": p0, "stage1_epochs": stage1_epochs, "stage2_epochs": 10, "stage1_lr": 3e-5}
    expected |= {"stage23_lr": stage23_lr, "pruning_end": 1.0}
    first, *others = spec.first_points()
    assert first == expected
    assert [(point["p0"], point["stage23_lr"]) for point in others] == FIGURES.get(task, [])
    method, timeline = spec.method, Timeline.of(auto.resolve(spec, {}).trial_config(first, 0).method, 2490)
    assert (method.total_epochs, method.batch_size, method.target_sparsity, spec.task.max_length) == (60, 32, 0.9, 128)
    assert timeline.pruning_end_step == timeline.t1 == 78 * stage1_epochs  # RTE's 2,490 examples
    assert all(rung * 60 >= 30 + 15 for rung in spec.early_stopping.rungs)  # the latest end of Stage II, and of pruning


def test_a_number_may_be_written_as_3e_5_everywhere(tmp_path: Path) -> None:
    text = TASK + "method: {stage1_lr: 3e-5}\nsearch: {stage23_lr: {low: 1e-5, high: +1E-3, log: true}}\n"
    spec = load(tmp_path, text + "teacher: {learning_rates: [2e-5]}\n", "method.weight_decay=1e-2")
    assert (spec.method.stage1_lr, spec.method.weight_decay) == (3e-5, 0.01)
    assert (spec.search["stage23_lr"].low, spec.search["stage23_lr"].high) == (1e-5, 1e-3)
    assert spec.teacher.learning_rates == (2e-5,)


def test_a_pattern_may_be_written_without_quotes(tmp_path: Path) -> None:
    text = TASK + "method: {pattern: 2:4, target_sparsity: 0.5}\nsearch: {pattern: {choices: [single, 2:4, 4x4]}}\n"
    spec = load(tmp_path, text)
    assert (spec.method.pattern, spec.search["pattern"].choices) == ("2:4", ("single", "2:4", "4x4"))
    assert load(tmp_path, text, "method.pattern=4:8").method.pattern == "4:8"
    assert load(tmp_path, spec.to_yaml()) == spec


def test_defaults_overrides_and_name(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK)
    assert (spec.name, spec.retries, spec.early_stopping, spec.study.seeds) == ("x", 2, None, (0,))
    spec = load(
        tmp_path,
        TASK + "search: {p0: {low: 0.1, high: 1}, dropout: {choices: [0, 0.1]}}\nwarm_start: [{p0: 0.2}]\n",
        "name=y",
        "search.p0.high=0.5",
        "warm_start=[]",
        "search.objective.temperature={low: 1, high: 4}",
        "early_stopping.rungs=[0.25]",
        "task.path=some/folder",
    )
    assert spec.name == "y"
    assert spec.search["p0"].high == 0.5
    assert spec.warm_start == ()
    assert spec.trial_config({"objective.temperature": 2.5}, 0).method.objective.temperature == 2.5
    assert spec.early_stopping is not None
    assert spec.early_stopping.rungs == (0.25,)
    assert spec.task.path == str(Path("some/folder").absolute())


def test_the_hash_is_of_what_decides_results(tmp_path: Path) -> None:
    text = TASK + "search: {p0: {low: 0.1, high: 1}, dropout: {choices: [0, 0.1]}}\n"
    first = load(tmp_path, text).space_hash()
    same = [
        "name=y",
        "resources.cpus_per_worker=2",
        "retries=0",
        "study.trials=99",
        "tracking.experiment=e",
        "checkpoints.keep=9",
        "task.path=another/place",
        "model.path=another/place",
    ]
    for setting in same:
        assert load(tmp_path, text, setting).space_hash() == first, setting
    reordered = TASK + "search: {dropout: {choices: [0, 0.1]}, p0: {high: 1, low: 0.1}}\n"
    assert load(tmp_path, reordered).space_hash() == first
    other = ["method.clip_norm=2", "search.p0.high=0.9", "study.seeds=[0, 1]", "study.seed=1", "engine.precision=bf16"]
    other += ["study.sampler=random", "task.train_examples=10", "early_stopping.rungs=[0.5]", "warm_start=[{}]"]
    for setting in other:
        setting = setting.replace("[{}]", "[{dropout: 0}]")
        assert load(tmp_path, text, setting).space_hash() != first, setting


def test_a_method_fills_in_what_the_file_does_not_say(tmp_path: Path) -> None:
    spec = load(tmp_path, TASK + "method: {name: theseus, p0: 0.3}\n")
    assert (spec.method.grafting, spec.method.pruning, spec.method.student.depth) == ("linear", "none", 0.5)
    assert spec.method.p0 == 0.3
    assert spec.trial_config({}, 0).method.name == "theseus"
    assert spec.search == {}


def test_a_method_of_the_command_line_brings_its_dimensions_and_keeps_what_means_something_to_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "x.yaml"
    text = (
        "search: {stage1_lr: {low: 1e-4, high: 1e-3}, stage2_epochs: {low: 1, high: 2}, pruning_end: {choices: [1]}}\n"
    )
    file.write_text(TASK + text + "warm_start: [{}]\n")
    spec = load_spec(file, method="theseus")
    assert set(spec.search) == {"p0", "grafting", "stage1_lr", "stage2_epochs"}
    assert spec.warm_start == ()
    with pytest.raises(UserError, match=r"method\.name: 'teseus' is unknown; did you mean theseus"):
        load_spec(file, method="teseus")


def test_methods_can_be_searched_and_each_is_composed_whole(tmp_path: Path) -> None:
    text = (
        "search: {method: {choices: [spd, pkd, tickets]}, stage1_lr: {choices: [1e-3, 3e-3]}}\nstudy: {sampler: grid}\n"
    )
    spec = load(tmp_path, TASK + "method: {target_sparsity: 0.5, objective: {attention_maps: scores}}\n" + text)
    assert spec.methods() == ["spd", "pkd", "tickets"]
    assert len(spec.first_points()) == 6
    pkd, tickets = (spec.trial_config({"method": name, "stage1_lr": 1e-3}, 1) for name in ("pkd", "tickets"))
    assert (pkd.method.student.depth, pkd.method.final_sparsity, pkd.method.objective.first_token) == (0.5, 0.0, 20)
    assert (tickets.method.pruning, tickets.method.final_sparsity) == ("lottery", 0.5)
    assert {pkd.method.objective.attention_maps, tickets.method.objective.attention_maps} == {"scores"}
    (tmp_path / "again.yaml").write_text(spec.to_yaml())
    again = load_spec(tmp_path / "again.yaml")
    assert again.space_hash() == spec.space_hash()
    assert again.trial_config({"method": "pkd"}, 1).method == spec.trial_config({"method": "pkd"}, 1).method


def test_the_hash_of_a_space_knows_the_method(tmp_path: Path) -> None:
    hashes = {load(tmp_path, TASK + f"method: {{name: {name}}}\n").space_hash() for name in ("spd", "kd_only", "pkd")}
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("task", "p0", "rate"),
    [("cola", 0.8, 5e-4), ("stsb", 0.8, 5e-4), ("mrpc", 0.8, 6.4e-4), ("rte", 0.6, 3e-5)],
)
def test_preset_paper_is_the_papers_table(task: str, p0: float, rate: float, tmp_path: Path) -> None:
    spec = load(tmp_path, f"task: {{name: {task}}}\npreset: paper\n")
    trial = spec.method
    assert (trial.p0, trial.later_lr, trial.stage1_lr) == (p0, rate, 3e-5)
    assert (trial.total_epochs, trial.stage1_epochs, trial.stage2_epochs, trial.batch_size) == (60, 30, 10, 32)
    assert (spec.task.max_length, spec.teacher.epochs, spec.teacher.learning_rates[0]) == (128, 4, 2e-5)


def test_a_preset_is_below_what_the_file_and_the_method_say(tmp_path: Path) -> None:
    spec = load(tmp_path, "task: {name: rte}\npreset: reference\nmethod: {name: minilm, clip_over: trained}\n")
    assert spec.method.clip_over == "trained"
    assert spec.method.objective.attention_maps == "scores"
    assert spec.method.objective.tokens == "all"
    assert spec.task.padding == "max_length"


def test_a_preset_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="preset: paper: the paper has no task 'mini_entailment'; it has cola, stsb"):
        load(tmp_path, TASK + "preset: paper\n")


@pytest.mark.parametrize("file", sorted((SPACES / "paper").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_space_of_the_paper_runs_as_it_is_and_on_the_miniature(file: Path) -> None:
    whole, mini = load_spec(file), load_spec(file, profile="mini")
    assert whole.name == mini.name == file.stem
    assert (whole.task.name.startswith("mini_"), mini.task.name.startswith("mini_")) == (False, True)
    assert whole.total_configurations() == mini.total_configurations() == len(mini.first_points())
    for before, after in zip(whole.first_points(), mini.first_points(), strict=True):
        long, short = whole.trial_config(before, 0).method, mini.trial_config(after, 0).method
        assert long.stage1_epochs / long.total_epochs == pytest.approx(short.stage1_epochs / short.total_epochs)
        assert (long.p0, long.final_sparsity, long.lr_schedule) == (short.p0, short.final_sparsity, short.lr_schedule)
        if "stage23_lr" in whole.search:
            assert short.later_lr == pytest.approx(10 * long.later_lr)


def test_on_the_miniature_what_starts_pretrained_is_trained_at_the_teachers_rate() -> None:
    rates = {}
    for name in ("fig02", "fig06"):  # from the pretrained model; from the teacher
        spec = load_spec(SPACES / "paper" / f"{name}.yaml", profile="mini")
        rates[name] = spec.trial_config(spec.first_points()[0], 0).method.stage1_lr
        assert spec.teacher.learning_rates == (3e-4,)
    assert rates == {"fig02": 3e-4, "fig06": 3e-3}


def test_overrides_go_over_the_profile(tmp_path: Path) -> None:
    spec = load_spec(SPACES / "paper" / "fig08.yaml", ["method.total_epochs=40", "study.seeds=[7]"], profile="mini")
    assert (spec.method.total_epochs, spec.method.stage1_epochs, spec.study.seeds) == (40, 15, (7,))
    with pytest.raises(UserError, match="--profile mini: nothing stands for the task 'mini_entailment'"):
        load_spec(SPACES / "demo.yaml", profile="mini")
