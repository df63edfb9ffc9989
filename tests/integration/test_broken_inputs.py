"""What a user can get wrong: each gives one line that names the place, and exit code 2, and nothing is lost."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import yaml
from safetensors.torch import save_file

from spd_ray import pretrain, sweep
from spd_ray.base.errors import run_main
from spd_ray.base.network import free_port

SPACE = """\
task: {name: sst2, path: TASK, max_length: 32}
model: {path: MODEL}
teacher: {epochs: 6, batch_size: 8, learning_rates: [2e-3], gate: false}
method: {total_epochs: 6, stage1_epochs: 3, stage2_epochs: 1, batch_size: 8}
search:
  p0: {low: 0.2, high: 0.8}
study: {trials: 1}
"""


@pytest.fixture
def place(tmp_path, tiny_bert, tiny_sst2):
    """A folder with a right space, task and model, for a test to break."""
    shutil.copytree(tiny_sst2, tmp_path / "task")
    shutil.copytree(tiny_bert, tmp_path / "model")
    text = SPACE.replace("TASK", str(tmp_path / "task")).replace("MODEL", str(tmp_path / "model"))
    (tmp_path / "space.yaml").write_text(text)
    return tmp_path


def test_an_error_is_told_before_anything_that_is_slow_to_import():
    code = "import sys, spd_ray.sweep; print(*{'torch', 'ray', 'mlflow', 'deepspeed', 'optuna'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def edit(place: Path, file: str, old: str, new: str) -> None:
    text = (place / file).read_text()
    assert old in text
    (place / file).write_text(text.replace(old, new, 1))


def one_line_of(capsys, command, arguments):
    """Run a command as its process would; returns the one line it writes to stderr."""
    with pytest.raises(SystemExit) as exit_:
        run_main(lambda: command([str(argument) for argument in arguments]))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert exit_.value.code == 2
    assert len(lines) == 1
    return lines[0]


def in_space(old, new):
    return lambda place: edit(place, "space.yaml", old, new)


def in_train(text):
    return lambda place: (place / "task/train.tsv").write_bytes(text)


BROKEN_SPACES = {
    "unknown section": (in_space("study:", "studdy:"), "space.yaml, line 7", "studdy", "study"),
    "unknown key": (in_space("total_epochs", "totl_epochs"), "space.yaml, line 4", "totl_epochs", "total_epochs"),
    "unknown dimension": (in_space("  p0:", "  p9:"), "space.yaml, line 6", "p9"),
    "empty range": (in_space("low: 0.2", "low: 0.9"), "space.yaml, line 6", "0.9 > 0.8"),
    "range beyond the field": (in_space("high: 0.8", "high: 1.2"), "space.yaml, line 6", "1.2"),
    "text for a number": (in_space("stage1_epochs: 3", "stage1_epochs: three"), "line 4", "stage1_epochs", "three"),
    "stages longer than all": (in_space("stage1_epochs: 3", "stage1_epochs: 7"), "line 4", "7 + 1 > 6"),
    "no trials": (in_space("trials: 1", "trials: 0"), "space.yaml, line 7", "trials"),
    "twice the same key": (in_space("study:", "model: {}\nstudy:"), "space.yaml, line 7", "model", "twice"),
    "tab": (in_space("  p0", "\tp0"), "space.yaml, line 6", "tab"),
    "not YAML": (in_space("study: {", "study: {{"), "space.yaml", "not YAML"),
    "negative rate": (in_space("[2e-3]", "[-2e-3]"), "space.yaml, line 3", "learning_rates"),
    "not finite": (in_space("low: 0.2", "low: .nan"), "space.yaml, line 6", "finite"),
    "empty file": (lambda place: (place / "space.yaml").write_text(""), "space.yaml", "empty"),
    "no such space": (lambda place: (place / "space.yaml").unlink(), "space.yaml", "no such file"),
    "unknown task": (in_space("sst2", "sst3"), "sst3"),
    "no dev.tsv": (lambda place: (place / "task/dev.tsv").unlink(), "dev.tsv"),
    "no task folder": (lambda place: shutil.rmtree(place / "task"), "task"),
    "unknown label": (in_train(b"sentence\tlabel\nred cat runs\t1\nblue dog runs\tgood\n"), "train.tsv", "3", "good"),
    "missing column": (in_train(b"sentence\nred cat runs\n"), "train.tsv", "label"),
    "too many fields": (in_train(b"sentence\tlabel\nred\tcat\t1\n"), "train.tsv", "2"),
    "not UTF-8": (in_train(b"sentence\tlabel\nred \xff\xfe cat\t1\n"), "train.tsv", "UTF-8"),
    "no rows": (in_train(b"sentence\tlabel\n"), "train.tsv"),
    "no model folder": (lambda place: shutil.rmtree(place / "model"), "model"),
    "no config.json": (lambda place: (place / "model/config.json").unlink(), "model", "config.json"),
    "corrupt weights": (lambda place: (place / "model/model.safetensors").write_bytes(b"\0" * 99), "model"),
    "other weights": (lambda place: save_file({}, place / "model/model.safetensors"), "model"),
    "inputs longer than the model": (in_space("max_length: 32", "max_length: 64"), "max_length", "64", "32"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_SPACES)
def test_a_broken_space_task_or_model(name, place, capsys):
    break_it, *words = BROKEN_SPACES[name]
    break_it(place)
    line = one_line_of(capsys, sweep.main, ["--space", place / "space.yaml", "--storage", place / "runs"])
    assert all(word in line for word in words), line


ARGUMENTS = {
    "--set without =": (["--set", "method.p0"], "--set method.p0", "key=value"),
    "--set of an unknown key": (["--set", "method.p1=0.5"], "--set method.p1=0.5", "p0"),
    "--set of a wrong value": (["--set", "method.p0=2"], "--set method.p0=2"),
    "--trials 0": (["--trials", "0"], "trials"),
    "--name with a slash": (["--name", "a/b"], "name"),
    "nothing to resume": (["--resume"], "--resume", "holds no sweep"),
    "dead address": (["--address", "127.0.0.1:PORT"], "--address 127.0.0.1:", "no Ray cluster"),
    "address without port": (["--address", "head"], "--address head", "HOST:PORT"),
    "storage that cannot be made": (["--storage", "/proc/nowhere"], "--storage /proc", "cannot be written"),
    "more than there is": (["--set", "resources.cpus_per_worker=4096"], "resources", "4096"),
    "dead MLflow server": (["--set", "tracking.uri=http://127.0.0.1:PORT"], "tracking.uri", "127.0.0.1"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_broken_command_line(name, place, capsys):
    arguments, *words = ARGUMENTS[name]
    arguments = [argument.replace("PORT", str(free_port())) for argument in arguments]
    storage = [] if "--storage" in arguments else ["--storage", place / "runs"]
    line = one_line_of(capsys, sweep.main, ["--space", place / "space.yaml", *storage, *arguments])
    assert all(word in line for word in words), line


def test_what_the_preflight_refuses_leaves_nothing_behind(place, capsys):
    arguments = ["--storage", place / "runs", "--set", "resources.cpus_per_worker=4096"]
    before = sorted(place.rglob("*"))
    one_line_of(capsys, sweep.main, ["--space", place / "space.yaml", *arguments])
    assert sorted(place.rglob("*")) == before
    assert not ray.is_initialized()


def test_a_secret_in_a_uri_is_refused_and_not_repeated(place, capsys):
    secret = "tracking.uri=http://me:hunter2@127.0.0.1:5000"
    line = one_line_of(capsys, sweep.main, ["--space", place / "space.yaml", "--set", secret])
    assert "tracking.uri" in line
    assert "MLFLOW_TRACKING_PASSWORD" in line
    assert "hunter2" not in line


def test_offline_without_files_the_line_says_what_to_give(place, capsys):
    space = yaml.safe_load((place / "space.yaml").read_text())
    del space["task"]["path"]
    (place / "space.yaml").write_text(yaml.safe_dump(space))
    line = one_line_of(capsys, sweep.main, ["--space", place / "space.yaml", "--storage", place / "runs"])
    assert "task.path" in line
    assert "demo.yaml" in line


def test_pretraining_on_nothing(place, capsys):
    line = one_line_of(capsys, pretrain.main, ["--corpus", place / "none.txt", "--out", place / "out"])
    assert "none.txt" in line
