"""What is refused in a search space, each in one line: the place, the key, the value, and what would be right."""

from pathlib import Path

import pytest

from spd_ray.base.errors import UserError
from spd_ray.config.load import load_spec
from tests.spaces import TASK, load

# The text after the task's line, and the whole message.

SEARCH = "search:\n  "
REFUSED = {
    "metod: {}": "x.yaml, line 2: unknown key metod; did you mean method?",
    "p0: 1": "x.yaml, line 2: unknown key p0; did you mean method.p0?",
    "method:\n  batchsize: 3": "x.yaml, line 3: unknown key method.batchsize; did you mean batch_size?",
    "method:\n  dropout: 0\n  p0: 1.5": "x.yaml, line 4: method.p0 = 1.5: must be less than or equal to 1",
    "method:\n  p0: true": "x.yaml, line 3: method.p0 = true: must be a number",
    "method:\n  p0: .nan": "x.yaml, line 3: method.p0: .nan is not a finite number",
    "method:\n  stage1_lr: 1e999": "x.yaml, line 3: method.stage1_lr: 1e999 is not a finite number",
    "method:\n  batch_size: 16.5": "x.yaml, line 3: method.batch_size = 16.5: must be a whole number",
    "method:\n  total_epochs: 5": "x.yaml, line 3: method.total_epochs = 5: stage1_epochs + stage2_epochs <= "
    "total_epochs must hold, but got 30 + 10 > 5",
    "method:\n  pruning_end: 2": "x.yaml, line 3: method.pruning_end = 2: pruning must end at or before t2: "
    "pruning_end <= 1.33333 (stage1_epochs + stage2_epochs over stage1_epochs) must hold, but got 2",
    "method:\n  p0: 0.1\n  p0: 0.2": "x.yaml, line 4: method.p0: given twice, first in line 3",
    "method:\n\tp0: 0.1": "x.yaml, line 3: not YAML: a tab where YAML wants spaces",
    "method: {p0: 0.1": "x.yaml, line 3: not YAML: expected ',' or '}', but got '<stream end>'",
    "1: 2": "x.yaml, line 2: the key 1 is not text; put it in quotes",
    "method: !!python/name:os.system x": "x.yaml, line 2: method: the YAML tag tag:yaml.org,2002:python/name:os.system "
    "has no use here",
    "method: &a {objective: *a}": "x.yaml: nested too deeply, or an alias contains itself",
    "---\na: 1": "x.yaml, line 2: not YAML: but found another document",
    SEARCH
    + "p0: {low: 0.5, high: 0.2}": "x.yaml, line 3: search.p0.low = 0.5: low <= high must hold, but got 0.5 > 0.2",
    SEARCH + "p0: {low: 0.5, high: 1.2}": "x.yaml, line 3: search.p0.high = 1.2: must be less than or equal to 1",
    SEARCH + "p0: {low: 0, high: 1, log: true}": "x.yaml, line 3: search.p0.low = 0: low must be above 0 with log, "
    "but got 0",
    SEARCH + "p0: {low: 0.1, high: 1, step: 0.2}": "x.yaml, line 3: search.p0.low = 0.1: steps of 0.2 from low 0.1 do "
    "not reach high 1, the last is 0.9",
    SEARCH + "p0: {low: 0.1, hihg: 1}": "x.yaml, line 3: unknown key search.p0.hihg; did you mean high?",
    SEARCH + "p0: {low: 0.1}": "x.yaml, line 3: search.p0.high is missing",
    SEARCH + "p0: 0.3": "x.yaml, line 3: search.p0 = 0.3: must be a mapping",
    SEARCH + "p0: {choices: []}": "x.yaml, line 3: search.p0.choices = []: must have at least one item",
    SEARCH + "p0: {choices: [0.1, 2]}": "x.yaml, line 3: search.p0.choices[1] = 2: must be less than or equal to 1",
    SEARCH + "p0: {choices: [0.1, 0.1]}": "x.yaml, line 3: search.p0.choices = [0.1, 0.1]: choices must differ, "
    "but got 0.1 twice",
    SEARCH + "p00: {low: 0, high: 1}": 'x.yaml, line 3: search.p00 = {"low": 0, "high": 1}: unknown dimension \'p00\'; '
    "did you mean p0?",
    SEARCH + "batch_size: {low: 8, high: 32, step: 0.5}": "x.yaml, line 3: search.batch_size.step = 0.5: must be a "
    "whole number",
    SEARCH + "pruning_schedule: {choices: [cubic, square]}": "x.yaml, line 3: search.pruning_schedule.choices[1] = "
    "\"square\": must be 'cubic', 'linear', 'geometric', 'one_shot' or 'constant'",
    SEARCH + "stage1_epochs: {low: 10, high: 55}": "x.yaml, line 3: search.stage1_epochs.high = 55: can never be used: "
    "stage1_epochs + stage2_epochs <= total_epochs must hold, but got 55 + 10 > 60",
    SEARCH + "total_epochs: {low: 45, high: 60}\n  stage1_epochs: {low: 40, high: 45}": "x.yaml, line 3: "
    "search.total_epochs.low = 45: can never be used: stage1_epochs + stage2_epochs <= total_epochs must hold, but got "
    "40 + 10 > 45",
    SEARCH + "stage2_epochs: {choices: [1, 9]}\n  pruning_end: {choices: [1.3, 1.5]}\n"
    "  stage1_epochs: {choices: [20, 40]}": "x.yaml, line 3: search.stage2_epochs.choices[0] = 1: can never be used: "
    "pruning must end at or before t2: pruning_end <= 1.05 (stage1_epochs + stage2_epochs over stage1_epochs) must "
    "hold, but got 1.3",
    SEARCH + "stage1_epochs: {low: 0.001, high: 60}\n  stage2_epochs: {low: 0, high: 59.9}\n"
    "  pruning_end: {low: 1, high: 50000}": 'x.yaml, line 3: search.stage1_epochs = {"low": 0.001, "high": 60}: of 300 '
    "points drawn at random 0 are possible; of the others the first: stage1_epochs + stage2_epochs <= total_epochs "
    "must hold, but got 45.4775 + 25.1922 > 60",
    SEARCH + "trained: {choices: [layers, all]}": 'x.yaml, line 3: search.trained.choices[1] = "all": can never be '
    "used: trained: all needs grafting: none, for grafted teacher layers read frozen embeddings",
    SEARCH + "method: {choices: [spd, teseus]}": 'x.yaml, line 3: search.method.choices[1] = "teseus": no such '
    "method; did you mean theseus? A file of your own ends in .yaml",
    SEARCH + "p0: {choices: [0.5, 0.6]}\nengine: {precision: bf16}\nmethod: {clip_over: all}": "x.yaml, line 5: "
    'method.clip_over = "all": clip_over: all needs engine.precision fp32 and engine.zero_stage 0',
    "method: {clip_over: all}\nengine: {zero_stage: 2}": 'x.yaml, line 2: method.clip_over = "all": clip_over: all '
    "needs engine.precision fp32 and engine.zero_stage 0",
    "engine: {zero_stage: 3, compile_layers: true}": "x.yaml, line 2: engine.compile_layers = true: compile_layers: "
    "true needs engine.zero_stage 0 to 2: at 3 a layer gathers its weights while it runs",
    "engine: {compile_layers: true}\nmethod: {objective: {tokens: all}}": "x.yaml, line 2: engine.compile_layers = "
    "true: compile_layers: true widens batches, and objective.tokens: all counts what is padded; it needs task.padding "
    "max_length",
    "method: {pattern: 4:2}": 'x.yaml, line 2: method.pattern = "4:2": must be single, n:m with n below m, such as '
    "2:4, or blocks RxC, such as 4x4",
    "method: {pattern: 2:4, target_sparsity: 0.75}": "x.yaml, line 2: method.target_sparsity = 0.75: pattern: 2:4 ends "
    "at a sparsity of 0.5 and at no other: target_sparsity must be 0.5, but got 0.75",
    "method: {pattern: 2:4}": 'x.yaml, line 2: method.pattern = "2:4": pattern: 2:4 ends at a sparsity of 0.5 and at '
    "no other: target_sparsity must be 0.5, but got 0.9",
    "method: {pattern: 4x4, regrowth: {kind: gradient}}": 'x.yaml, line 2: method.pattern = "4x4": regrowth.kind: '
    "gradient needs pattern: single",
    "method: {pattern: 1:4, target_sparsity: 0.75, drop_last_event: true}": "x.yaml, line 2: method.drop_last_event = "
    "true: pattern: 1:4 needs drop_last_event: false",
    "study: {sampler: grid}\n" + SEARCH + "stage1_epochs: {choices: [55, 58]}": "x.yaml, line 4: "
    "search.stage1_epochs.choices[0] = 55: can never be used: stage1_epochs + stage2_epochs <= total_epochs must hold, "
    "but got 55 + 10 > 60",
    "study: {sampler: grid}\n" + SEARCH + "dropout: {low: 0, high: 0.5, step: 0.000001}": "x.yaml, line 3: search = "
    '{"dropout": {"low": 0, "high": 0.5, "step": 1e-06}}: a grid of 500001 points; at most 10000 are allowed',
    "trial: {p0: 0.5}": "x.yaml, line 2: trial is called method now: write method: in its place",
    "method: theseus": 'x.yaml, line 2: method = "theseus": method is a section now: write method: {name: theseus}',
    SEARCH + "p0: {low: 0, high: 0.5}\nwarm_start:\n  - {}": "x.yaml, line 5: warm_start[0] = {}: p0 is 0.6 (from "
    "method), outside search.p0 (0 to 0.5)",
    SEARCH + "p0: {low: 0, high: 0.5}\nwarm_start: [{p0: 0.7}]": "x.yaml, line 4: warm_start[0].p0 = 0.7: outside "
    "search.p0 (0 to 0.5)",
    SEARCH + "p0: {low: 0, high: 1, step: 0.5}\nwarm_start: [{p0: 0.7}]": "x.yaml, line 4: warm_start[0].p0 = 0.7: "
    "outside search.p0 (0 to 1 in steps of 0.5)",
    SEARCH + "p0: {low: 0, high: 1}\nwarm_start: [{dropout: 0.7}]": "x.yaml, line 4: warm_start[0].dropout = 0.7: "
    "not a dimension of search",
    SEARCH + "stage1_epochs: {low: 9, high: 40}\n  stage2_epochs: {low: 9, high: 40}\nwarm_start:\n"
    "- {stage1_epochs: 40, stage2_epochs: 30}": "x.yaml, line 6: warm_start[0] = "
    '{"stage1_epochs": 40, "stage2_epochs": 30}: stage1_epochs + stage2_epochs <= total_epochs must hold, but got '
    "40 + 30 > 60",
    "study: {sampler: grid}\n" + SEARCH + "p0: {low: 0, high: 1}": 'x.yaml, line 4: search.p0 = {"low": 0, "high": 1}: '
    "a grid needs a step or choices",
    "study: {sampler: bayes}": "x.yaml, line 2: study.sampler = \"bayes\": must be 'tpe', 'random' or 'grid'",
    "study: {trials: 0}": "x.yaml, line 2: study.trials = 0: must be greater than or equal to 1",
    "study: {seeds: [0, 0]}": "x.yaml, line 2: study.seeds = [0, 0]: seeds must differ",
    "resources: {gpus_per_worker: 1.5}": "x.yaml, line 2: resources.gpus_per_worker = 1.5: a worker is one rank and "
    "uses one GPU; for more, raise workers",
    "resources: {workers: 2, gpus_per_worker: 0.5}": "x.yaml, line 2: resources.gpus_per_worker = 0.5: the 2 workers "
    "of a trial cannot share a GPU: NCCL wants one each; set it to 1 or 0",
    "early_stopping: {rungs: [0.8, 0.5]}": "x.yaml, line 2: early_stopping.rungs = [0.8, 0.5]: rungs must rise",
    "early_stopping: {rungs: [1.0]}": "x.yaml, line 2: early_stopping.rungs[0] = 1.0: must be less than 1",
    "name: a b": 'x.yaml, line 2: name = "a b": must be letters, digits, - and _',
    SEARCH + "objective.hidden: {low: 0, high: 1}\n"
    "method: {objective: {attention: 0, prediction: 0}}": "x.yaml, line 3: search.objective.hidden.low = 0: can never "
    "be used: at least one of task, prediction, embedding, hidden, attention, first_token, cosine, attention_relation, "
    "value_relation and consistency must be above 0",
    SEARCH + "objective.hidden: {low: 0, high: 1}\n"
    "method: {objective: {attention: 0, prediction: 0, hidden: 0}}": "x.yaml, line 4: "
    "method.objective.prediction = 0: at least one of task, prediction, embedding, hidden, attention, first_token, "
    "cosine, attention_relation, value_relation and consistency must be above 0",
    SEARCH + "stage23_lr: {low: 1e-5, high: 1e-3}\nwarm_start: [{}]": "x.yaml, line 4: warm_start[0] = {}: stage23_lr "
    "is null (from method), outside search.stage23_lr (1e-05 to 0.001)",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_broken_space_is_told_in_one_line(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load(Path(), TASK + text + "\n")
    assert str(caught.value) == REFUSED[text]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method.p0", "--set method.p0: not of the form key=value"),
        ("=3", "--set =3: not of the form key=value"),
        ("method.p0=7", "--set method.p0=7: must be less than or equal to 1"),
        ("method.p9=7", "--set method.p9=7: unknown key method.p9; it must be one of name, student, "),
        ("p0=0.5", "--set p0=0.5: unknown key p0; did you mean method.p0?"),
        ("method=3", "--set method=...: method is a section; set one of its keys: name, "),
        (
            "method.objective={}",
            "--set method.objective=...: method.objective is a section; set one of its keys: task, ",
        ),
        (
            "method.total_epochs=6",
            "--set method.total_epochs=6: stage1_epochs + stage2_epochs <= total_epochs must hold",
        ),
        ("trial.p0=0.5", "--set trial.p0=...: trial is called method now: write --set method.p0=..."),
        ("method=theseus", "--set method=...: method is a section; set one of its keys: name, "),
        ("method.p0={", "--set method.p0={: not YAML: "),
        ("method.p0=", "--set method.p0=: must be a number"),
        ("method.p0=.inf", "--set method.p0=.inf: .inf is not a finite number"),
        ("search.p0.low=0.1", "--set search.p0.low=0.1: search.p0.high is missing"),
        (
            "early_stopping.rungs=[2]",
            "--set early_stopping.rungs=[2]: early_stopping.rungs[0] = 2: must be less than 1",
        ),
    ],
)
def test_a_broken_override_is_told_in_one_line(setting: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, TASK, setting)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["method.total_epochs=40", "method.stage2_epochs=20"],
            "--set method.stage2_epochs=20: stage1_epochs + stage2_epochs <= total_epochs must hold, but got 30 + 20",
        ),
        (
            ["engine.precision=bf16"],
            "--set engine.precision=bf16: clip_over: all needs engine.precision fp32 and engine.zero_stage 0",
        ),
        (
            ["method.clip_over=all", "method.student.init=pretrained"],
            "--set method.student.init=pretrained: student.init",
        ),
    ],
)
def test_of_the_keys_that_a_rule_is_about_the_one_that_was_overridden_is_named(
    settings: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        load(
            tmp_path, TASK + "method: {stage1_epochs: 30, clip_over: all}\nsearch: {p0: {choices: [0.2]}}\n", *settings
        )
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: [1]", "search = [1]: must be a mapping"),
        ("search:", "search = null: must be a mapping"),
        ("method: [1]", "method = [1]: must be a mapping"),
        ("method: {student: 3}", "method.student = 3: must be a mapping"),
        ("method: {total_epochs: long}", 'method.total_epochs = "long": must be a number'),
        ("warm_start: 3", "warm_start = 3: must be a list"),
        ("warm_start: [3]", "warm_start[0] = 3: must be a mapping"),
    ],
)
def test_what_is_malformed_is_told_under_a_method_and_a_profile_too(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"task: {{name: rte}}\n{text}\n")
    for method, profile in ((None, None), (None, "mini"), ("theseus", None), ("theseus", "mini")):
        if method is not None and text == "warm_start: 3":
            continue
        with pytest.raises(UserError, match=r"x\.yaml, line 2: ") as caught:
            load_spec(tmp_path / "x.yaml", method=method, profile=profile)
        assert str(caught.value).endswith(message)


def test_files_that_are_no_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = {
        b"": "x.yaml: the file is empty, where a mapping with the key task is needed",
        b"# nothing\n": "x.yaml: the file is empty, where a mapping with the key task is needed",
        b"\n- 1\n": "x.yaml, line 2: [1], where a mapping with the key task is needed",
        b"model: {}\n": "x.yaml, line 1: task is missing",
        b"task: {}\n": "x.yaml, line 1: task.name is missing",
        b"\xff\xfe\xff": "x.yaml: not YAML: unacceptable character",
    }
    for content, message in expected.items():
        Path("x.yaml").write_bytes(content)
        with pytest.raises(UserError) as caught:
            load_spec("x.yaml")
        assert str(caught.value).startswith(message)
    with pytest.raises(UserError, match=r"^none\.yaml: no such file$"):
        load_spec("none.yaml")
    with pytest.raises(UserError, match=r"^\.: a folder, where a YAML file is needed$"):
        load_spec(".")
