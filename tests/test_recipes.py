"""CONTRIBUTING's recipes, followed in a copy of the code: each addition takes the files that it names, and works."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("spd_ray", "analysis")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def sources(folder: Path) -> dict[str, bytes]:
    found = [path for package in PACKAGES for path in (folder / package).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if "__pycache__" not in path.parts}


def insert(file: Path, before: str, text: str) -> None:
    """Put `text` before the one place where `before` is."""
    content = file.read_text()
    assert content.count(before) == 1, f"{file.name} has {before!r} {content.count(before)} times"
    file.write_text(content.replace(before, text + before))


def files_of(recipe: str) -> set[str]:
    """What CONTRIBUTING says that the recipe touches."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split(f"### {recipe}\n")[1].strip().split("\n\n")[0]
    return set(re.findall(r"`([\w/]+/\w+\.(?:py|yaml))`", section))


def run_in(copy: Path, script: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(copy)!r})\n{script}"],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def add_method(copy: Path) -> None:
    methods = copy / "spd_ray/config/methods"
    text = (methods / "kd_only.yaml").read_text()
    (methods / "newcomer.yaml").write_text(text.replace("grafting: none", "grafting: constant"))


METHOD = """
from spd_ray.config.load import load_spec
spec = load_spec("space.yaml", ["search.method={choices: [spd, newcomer]}"])
trial = spec.trial_config({"method": "newcomer"}, seed=0)
print(trial.method.name, trial.method.grafting, load_spec("space.yaml", method="newcomer").methods())
"""


def add_loss_term(copy: Path) -> None:
    losses = copy / "spd_ray/equations/losses.py"
    losses.write_text(
        losses.read_text() + "\n\ndef distance_loss(student: Tensor, teacher: Tensor, tokens: RealTokens) -> Tensor:\n"
        '    """|H^S - H^T|, mean over the real positions."""\n'
        "    return over_tokens((student - teacher).abs().mean(dim=-1), tokens)\n"
    )
    insert(
        copy / "spd_ray/equations/loss_terms.py",
        "}\n\n\ndef column(",
        '    "distance": LossTerm("distance_loss", "hidden", "tokens", 0.0, "absolute distance of hidden states"),\n',
    )


LOSS_TERM = """
import torch
from spd_ray.config.load import load_spec
from spd_ray.model.attention import LayerOutputs, ModelOutputs
from spd_ray.model.objective import Needs, terms
from spd_ray.records.schema import STEP_SCHEMA, StepRecord
off = {f"method.objective.{name}": 0 for name in ("hidden", "attention", "prediction")}
spec = load_spec("space.yaml", [*(f"{key}={value}" for key, value in off.items()), "method.objective.distance=2"])
def model(level):
    layer = LayerOutputs(torch.full((1, 2, 3), level), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3))
    return ModelOutputs(torch.zeros(1, 2), layer.hidden, (layer, layer))
objective, tokens = spec.method.objective, torch.tensor([[True, False]])
found = terms(objective, model(0.0), model(1.5), torch.tensor([0]), tokens)
record = StepRecord(step=0, epoch=0.0, stage=1, split="batch", metric="loss", value=6.0, sparsity=0.0, seconds=0.1,
                    loss_distance=found["distance"].item())
print(objective.weights(), sorted(found), record.loss_distance, "loss_distance" in STEP_SCHEMA.names,
      Needs.of(spec.method.model_copy(update={"grafting": "none"}), 2).hidden)
"""


def add_task(copy: Path) -> None:
    insert(
        copy / "spd_ray/data/tasks.py",
        '        Task("rte", TWO',
        '        Task("wnli", TWO, ENTAILMENT, "accuracy", '
        'tsv=TsvLayout(("index", *TWO, "label"), TWO, "label", ("0", "1"))),\n',
    )
    for split in ("train", "dev"):
        rows = "index\tsentence1\tsentence2\tlabel\n0\tHe ate.\tHe did.\t0\n1\tHe ate.\tHe slept.\t1\n"
        (copy / f"{split}.tsv").write_text(rows)


TASK = """
from spd_ray.config.load import load_spec
from spd_ray.data.tasks import load_task
data = load_task(load_spec("space.yaml", ["task.name=wnli", "task.path=.", "task.train_examples=null"]).task)
print(data.task.name, data.task.metric, data.dev.text_b, data.dev.labels.tolist())
"""


def add_figure(copy: Path) -> None:
    text = (copy / "analysis/figures/fig08.py").read_text()
    text = text.replace('NAME = "fig08"', 'NAME = "newcomer"').replace(
        "Dev score against p₀ (Figure 8)", "A new figure"
    )
    (copy / "analysis/beyond/newcomer.py").write_text(text)
    page = copy / "analysis/page/figure_list.py"
    insert(page, "    pareto,\n    trial_curves,\n", "    newcomer,\n")
    page.write_text(
        page.read_text().replace("(grafting_by_depth, device_hours)", "(grafting_by_depth, device_hours, newcomer)")
    )


FIGURE = """
from pathlib import Path
from analysis.page.figure_list import list_figures
from analysis.reading.sweeps import read_sweeps
figure = next(one for one in list_figures(None) if one.name == "newcomer")
numbers = figure.compute(read_sweeps(".", print))
print(figure.section, figure.title, len(figure.figure(numbers).axes), len(figure.caption(numbers)) > 0)
"""


def add_check(copy: Path) -> None:
    place = copy / "spd_ray/checks"
    insert(
        place / "nodes.py",
        "def check_token(",
        "def check_cores(cores: list[float]) -> Finding:\n"
        '    """Whether there is a core."""\n'
        '    return Finding(OK if sum(cores) else FAILED, "cores", "there is one")\n\n\n',
    )
    line = '    yield run_check("cores", lambda: nodes.check_cores([1.0]))\n'
    insert(place / "examination.py", "    place = storage if is_uri(storage)", line)


CHECK = """
import itertools
from spd_ray.checks.examination import examine
print([finding.check for finding in itertools.islice(examine(None, "runs", None), 4)])
"""


@pytest.mark.parametrize(
    ("recipe", "add", "script", "printed"),
    [
        ("A method", add_method, METHOD, "newcomer constant ['newcomer']"),
        ("A loss term", add_loss_term, LOSS_TERM, "{'distance': 2.0} ['distance'] 3.0 True (0, 1)"),
        ("A task", add_task, TASK, "wnli accuracy ['He did.', 'He slept.'] [0, 1]"),
        ("A figure", add_figure, FIGURE, "More about these trials A new figure 1 True"),
        ("A check of the doctor", add_check, CHECK, "['versions', 'token file', 'cores', 'storage']"),
    ],
)
def test_a_recipe_takes_the_files_that_it_names(
    copy: Path, recipe: str, add: Callable[[Path], None], script: str, printed: str
) -> None:
    shutil.copy(ROOT / "search_spaces/demo.yaml", copy / "space.yaml")
    if recipe == "A figure":
        from hand_made_sweep import write_sweep

        write_sweep(copy / "sweep")
    add(copy)
    before, after = sources(ROOT), sources(copy)
    changed = {name.replace("newcomer", "NAME") for name in after if after[name] != before.get(name)}
    assert changed == files_of(recipe)
    assert run_in(copy, script).splitlines()[-1] == printed


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tunes: [stage2_epochs]", "", "tunes is missing; a method's file has source, parts, leaves_out, method"),
        ("tunes:", "tune:", "tunes is missing"),
        ("tunes: [stage2_epochs]", "tunes: 3", "tunes must be a valid tuple"),
        ("method:", "method: {{", "not YAML"),
    ],
)
def test_a_method_that_is_not_whole_is_one_line_before_anything_is_printed(
    copy: Path, old: str, new: str, said: str
) -> None:
    text = (copy / "spd_ray/config/methods/theseus.yaml").read_text()
    assert old in text
    (copy / "spd_ray/config/methods/mine.yaml").write_text(text.replace(old, new, 1))
    words = ["-m", "spd_ray.sweep", "--space", str(ROOT / "search_spaces/demo.yaml"), "--method", "mine", "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert "methods/mine.yaml: " in line
    assert said in line
