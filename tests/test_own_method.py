"""A method of the user's own, in a file: wherever a method's name may stand, and what may be wrong with it."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from spd_ray.base.errors import UserError
from spd_ray.config.load import find_method, load_spec
from spd_ray.config.sweep import SweepSpec
from spd_ray.driver.dry_run import explain_method
from spd_ray.driver.place import continued
from spd_ray.records.schema import SCHEMA_VERSION
from tests.spaces import TASK

MINE = """\
source: "ourselves, 2026"
parts:
  grafting: "p0 throughout"
leaves_out: "the ramp of Stage II"
method:
  grafting: constant
  objective: {attention: 0}
search:
  p0: {low: 0.3, high: 0.9}
tunes: [stage1_epochs]
"""
SEARCH = "search: {stage1_epochs: {low: 10, high: 20}, pruning_end: {low: 0.5, high: 1}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `mine.yaml` and the space `x.yaml` are, and where the program runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "x.yaml").write_text(TASK)
    return tmp_path


def refusal(text: str, *settings: str, method: str | None = None) -> str:
    Path("x.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_spec("x.yaml", settings, method)
    return str(caught.value)


def test_it_runs_with_its_parts_and_its_own_dimensions(folder: Path) -> None:
    Path("x.yaml").write_text(TASK + "method: {p0: 0.4}\n" + SEARCH)
    spec = load_spec("x.yaml", method="mine.yaml")
    assert spec.methods() == ["mine"]
    assert set(spec.search) == {"p0", "stage1_epochs"}  # its own, and of the space's those that it tunes
    trial = spec.trial_config({"p0": 0.5, "stage1_epochs": 10}, 0).method
    assert (trial.name, trial.grafting, trial.objective.attention, trial.p0) == ("mine", "constant", 0, 0.5)


def test_it_stands_wherever_a_methods_name_may(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    space = folder / "elsewhere/y.yaml"
    space.write_text(TASK + "method: {name: ../mine.yaml}\n")  # a path of a space starts at the space
    assert load_spec(space).method.grafting == "constant"
    space.write_text(TASK + "search: {method: {choices: [spd, ../mine.yaml]}}\n")
    by_name = {name: load_spec(space).trial_config({"method": name}, 0).method for name in ("spd", "mine")}
    assert (by_name["mine"].grafting, by_name["spd"].grafting) == ("constant", "three_stage")
    space.write_text(TASK)  # one of a command line, where the program runs
    assert load_spec(space, ["method.name=mine.yaml"]).method.objective.attention == 0
    assert load_spec(space, ["search.method={choices: [mine.yaml, pkd]}"]).methods() == ["mine", "pkd"]
    assert load_spec({"name": "x", "task": {"name": "rte"}}, method="mine.yaml", profile="mini").methods() == ["mine"]


def begun(spec: SweepSpec) -> dict[str, object]:
    """What sweep.yaml says of a sweep that was begun with `spec`."""
    Path("sweep.yaml").write_text(spec.to_yaml())
    return {"schema_version": SCHEMA_VERSION, "spec": spec.resolved(), "space_hash": spec.space_hash()}


@pytest.mark.parametrize("settings", [(), ("search.method={choices: [spd, mine.yaml]}",)])
def test_a_sweep_goes_on_without_the_file(folder: Path, settings: tuple[str, ...]) -> None:
    spec = load_spec("x.yaml", settings, None if settings else "mine.yaml")
    there = begun(spec)
    (folder / "mine.yaml").unlink()
    again = load_spec("sweep.yaml")
    assert again == spec
    assert continued("runs/x", there, again) == spec


def test_a_sweep_does_not_go_on_with_another_file(folder: Path) -> None:
    there = begun(load_spec("x.yaml", method="mine.yaml"))
    (folder / "mine.yaml").write_text(MINE.replace("attention: 0", "attention: 0.5"))
    with pytest.raises(UserError) as caught:
        continued("runs/x", there, load_spec("x.yaml", method="mine.yaml"))
    assert str(caught.value) == (
        "--resume: runs/x was begun with method.objective.attention = 0.0, and now it is 0.5; leave --space and --set "
        "out to go on as it was, or give another --name"
    )
    with pytest.raises(UserError, match=r"^mine\.yaml: differs from what the space, or the sweep that was begun, has"):
        load_spec("sweep.yaml", method="mine.yaml")


def test_a_dry_run_explains_it(folder: Path) -> None:
    shown = io.StringIO()
    explain_method(*find_method("mine.yaml"), Console(file=shown, width=100))
    assert all(word in shown.getvalue() for word in ("method mine", "ourselves, 2026", "p0 throughout", "p0, stage1_"))


REFUSED = {
    ("source: ", "sourc: "): "mine.yaml, line 1: unknown key sourc; did you mean source?",
    ('source: "ourselves, 2026"\n', ""): "mine.yaml: source is missing; a method's file has source, parts, leaves_out, "
    "method, search, tunes",
    (MINE, "source: x\nparts: {}\nleaves_out: x\nsearch: {}\ntunes: []\n"): "mine.yaml: method is missing; a method's "
    "file has source, parts, leaves_out, method, search, tunes",
    (MINE, ""): "mine.yaml: the file is empty, where a mapping with the key method is needed",
    ('"p0 throughout"', "3"): "mine.yaml, line 3: parts.grafting = 3: must be text",
    ("grafting: constant", "graftng: constant"): "mine.yaml, line 6: unknown key method.graftng; did you mean "
    "grafting?",
    ("constant", "often"): 'mine.yaml, line 6: method.grafting = "often": must be \'none\', \'three_stage\', '
    "'constant' or 'linear'",
    ("attention: 0", "attention: -1"): "mine.yaml, line 7: method.objective.attention = -1: must be greater than or "
    "equal to 0",
    ("  p0:", "  p9:"): "mine.yaml, line 9: search.p9",
    ("high: 0.9", "high: 1.2"): "mine.yaml, line 9: search.p0.high = 1.2: must be less than or equal to 1",
    ("low: 0.3", "low: 0.95"): "mine.yaml, line 9: search.p0.low = 0.95: low <= high must hold, but got 0.95 > 0.9",
    ("[stage1_epochs]", "[stage1_epoch]"): "mine.yaml, line 10: tunes[0]: unknown dimension 'stage1_epoch'; did you "
    "mean stage1_epochs?",
    ("grafting: constant", "trained: all"): 'mine.yaml, line 6: method.trained = "all": trained: all needs grafting: '
    "none, for grafted teacher layers read frozen embeddings",
    ("grafting: constant", "name: spd"): "mine.yaml, line 6: method.name: the file's name is the method's; leave "
    "it out",
    ("grafting: constant", "grafting: {a: 1"): "mine.yaml, line 7: not YAML",
}  # fmt: skip


@pytest.mark.parametrize("edit", REFUSED)
def test_a_broken_file_is_told_in_one_line(edit: tuple[str, str], folder: Path) -> None:
    (folder / "mine.yaml").write_text(MINE.replace(*edit))
    searched = TASK + "search: {method: {choices: [spd, mine.yaml]}}\n"
    lines = {refusal(TASK, method="mine.yaml"), refusal(searched)}
    assert all(line.startswith(REFUSED[edit]) for line in lines), lines


def test_what_is_about_budgets_is_left_to_the_space_and_names_the_file(folder: Path) -> None:
    (folder / "mine.yaml").write_text(MINE.replace("grafting: constant", "stage1_epochs: 80"))
    assert load_spec("x.yaml", ["method.total_epochs=100"], "mine.yaml").method.stage1_epochs == 80
    line = "mine.yaml, line 6: method.stage1_epochs = 80: stage1_epochs + stage2_epochs <= total_epochs must hold"
    assert refusal(TASK, method="mine.yaml").startswith(line)


def test_a_name_that_another_method_has_is_refused(folder: Path) -> None:
    (folder / "spd.yaml").write_text(MINE)
    (folder / "my own.yaml").write_text(MINE)
    (folder / "other").mkdir()
    (folder / "other/mine.yaml").write_text(MINE.replace("0.3", "0.4"))
    line = "spd.yaml: spd is a method of this package; give the file another name"
    assert refusal(TASK, method="spd.yaml") == line
    assert refusal(TASK, method="my own.yaml") == (
        "my own.yaml: the file's name is the method's: it must be letters, digits, - and _"
    )
    two = refusal(TASK + "search: {method: {choices: [mine.yaml, other/mine.yaml]}}\n")
    assert two.startswith("other/mine.yaml: differs from what the space")
    assert refusal(TASK, method="none.yaml") == "none.yaml: no such file"
    assert refusal(TASK + "method: {name: [spd]}\n") == 'x.yaml, line 2: method.name = ["spd"]: must be text'
    nested = refusal(TASK + "search: {method: {choices: [[spd]]}}\n")
    assert nested.startswith("x.yaml, line 2: search.method.choices[0]")
    inline = refusal(TASK + "own_methods:\n  mine: {sourc: x}\n")
    assert inline == "x.yaml, line 3: unknown key sourc; did you mean source?"
    assert refusal(TASK + "own_methods: 3\n", method="mine.yaml").startswith(
        "x.yaml, line 2: own_methods = 3: must be a mapping"
    )
