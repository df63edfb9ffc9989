"""The documentation says what is there: generated tables, links, anchors, the README's tree, the recipes' files."""

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from spd_ray.config.load import load_spec

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
assert _spec is not None
assert _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "cluster/README.md"]
README = (ROOT / "README.md").read_text()
PRINTED = "analysis/paper/printed.py"  # the paper's tables: beside any recipe
RECIPES = (ROOT / "CONTRIBUTING.md").read_text().partition("## Recipes")[2]


def page_id(path):
    return path.relative_to(ROOT).as_posix()


def without_code(text):
    """`text` without indented and fenced blocks, where a bracket is no link and a # is no heading."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def anchors_of(page):
    return {
        generate.anchor(heading) for heading in re.findall(r"^#+ (.+)$", without_code(page.read_text()), re.MULTILINE)
    }


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=page_id)
def test_the_generated_tables_are_those_of_the_code(page):
    assert generate.fill(page.read_text()) == page.read_text(), "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_and_anchors_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        assert not anchor or anchor in anchors_of(place), target


def test_no_heading_of_the_decisions_is_there_twice():
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/decisions.md").read_text(), re.MULTILINE)
    assert len({generate.anchor(heading) for heading in headings}) == len(headings)


@pytest.mark.parametrize("page", [ROOT / "docs/decisions.md", ROOT / "CONTRIBUTING.md"], ids=page_id)
def test_files_that_are_named_exist(page):
    named = re.findall(
        r"`((?:spd_ray|analysis|tests|benchmarks|search_spaces|cluster|docs)/[^`\s#<]*)`", page.read_text()
    )
    assert named
    for name in named:
        if "NAME" not in name:
            assert (ROOT / name).exists(), name


def test_each_decision_is_linked_from_its_code():
    """In the docstring of every module that the entry names below its heading."""
    linked = {}
    for block in re.split(r"^### ", (ROOT / "docs/decisions.md").read_text(), flags=re.MULTILINE)[1:]:
        heading, _, rest = block.partition("\n")
        for name in re.findall(r"`((?:spd_ray|analysis)/[^`]+\.py)`", rest.strip().split("\n\n")[0]):
            linked.setdefault(name, set()).add("#" + generate.anchor(heading.strip()))
    assert linked
    for name, anchors in linked.items():
        docstring = (ROOT / name).read_text().split('"""')[1]
        found = docstring.partition("docs/decisions.md ")[2]
        assert {*re.findall(r"#[\w-]+", found)} == anchors, name


def test_the_readme_is_of_one_sitting():
    assert len(README.splitlines()) <= 220


def tree():
    """The files and folders that the README's tree names: two spaces deeper is a level, two spaces end the names."""
    block = README.partition("## The tree\n")[2].partition("\nEquation (5)")[0]
    folders: list[tuple[int, Path]] = []
    for line in block.splitlines():
        if not line.startswith("    "):
            continue
        depth = len(line) - len(line.lstrip())
        names = []
        for name in line.split():
            if not re.fullmatch(r"[\w.]+(/|\.py)", name):
                break
            names.append(name)
        folders = [(level, folder) for level, folder in folders if level < depth]
        parent = folders[-1][1] if folders else ROOT
        for name in names:
            yield parent / name
        if len(names) == 1 and names[0].endswith("/"):
            folders.append((depth, parent / names[0]))


def test_the_readmes_tree_is_the_code():
    named = {path.relative_to(ROOT) for path in tree()}
    for path in named:
        assert (ROOT / path).exists(), path
    files = [file.relative_to(ROOT) for package in ("spd_ray", "analysis") for file in ROOT.glob(f"{package}/*/*.py")]
    modules = [file for file in files if file.name != "__init__.py"]
    assert {file for file in modules if file.parts[0] == "spd_ray"} | {file.parent for file in files} <= named
    assert max(Counter(file.parent for file in modules).values()) == 12, "a room holds a dozen files at most"


@pytest.mark.parametrize(
    ("what", "room", "code"),
    [
        ("the loss scale", "engine", "def loss_scale("),
        ("a sampler's seed", "study", "optuna.samplers.TPESampler("),
        ("a step part's file name", "records", "def step_part("),
        ("the registered model's alias", "tracking", "set_registered_model_alias("),
        ("a claim's verdict", "paper", "NO_DATA ="),
    ],
)
def test_the_readmes_tree_says_in_which_room_it_is(what, room, code):
    block = README.partition("## The tree\n")[2].partition("\nEquation (5)")[0]
    before, found, _ = block.partition(what)
    assert found
    assert re.findall(r"^ {6}([a-z]+)/", before, re.MULTILINE)[-1] == room
    (folder,) = [path for path in tree() if path.name == room and path.parent.name in ("spd_ray", "analysis")]
    assert any(code in file.read_text() for file in folder.glob("*.py"))


def test_equation_5_is_where_the_readme_says():
    said = README.partition("\nEquation (5)")[2].partition("\n\n")[0]
    files = [file for file in re.findall(r"`(\S+\.py)`", said)]
    assert len(files) == 4
    assert all("replacing_probability(" in (ROOT / file).read_text() for file in files)


def test_the_files_of_a_sweep_are_those_that_the_code_names():
    block = README.partition("## A sweep's folder\n")[2].partition("\n## ")[0]
    lines = [line.strip().partition("  ")[0] for line in block.splitlines() if line.startswith("    ")]
    names = {re.split("[=/]", name)[0] for line in lines[1:] for name in line.split(", ")} - {"demo"}
    assert len(names) == 16
    code = (ROOT / "spd_ray/records/layout.py").read_text()
    assert [name for name in names if name not in code] == []


def readmes_own_sweep():
    """The space and the error line of the README's "Your own sweep"."""
    section = README.partition("## Your own sweep\n")[2].partition("\n## ")[0]
    space, error = re.findall(r"(?:^ {4}.*\n)+", section, re.MULTILINE)[:2]
    return re.sub("^    ", "", space, flags=re.MULTILINE), error.strip()


def test_the_readmes_own_sweep_is_taken_and_refused_as_it_says(tmp_path):
    space, error = readmes_own_sweep()
    file = tmp_path / "mine.yaml"
    file.write_text(space)
    assert len(space.splitlines()) == 15
    assert load_spec(file).total_configurations() == 10
    file.write_text(space.replace("high: 1.0", "high: 1.2"))
    command = [sys.executable, "-m", "spd_ray.sweep", "--space", "mine.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (2, error)


def test_what_one_writes_is_taken():
    """Every `--set` of the README, all at once, on a space of the paper's."""
    found = re.findall(r'--set (?:"([^"]+)"|([^\s`]+))', README)
    settings = [quoted or plain for quoted, plain in found]
    assert len(settings) >= 10
    load_spec(ROOT / "search_spaces/rte.yaml", settings)


def test_links_of_the_code_lead_to_a_heading():
    files = [file for package in ("spd_ray", "analysis") for file in (ROOT / package).rglob("*.py")]
    links = {link for file in files for link in re.findall(r"(docs/\w+\.md)#([\w-]+)", file.read_text())}
    assert [(page, anchor) for page, anchor in sorted(links) if anchor not in anchors_of(ROOT / page)] == []


def recipe(heading):
    """What a recipe says at first: how many files, and which."""
    text = RECIPES.partition(f"### {heading}\n")[2].partition("\n### ")[0].strip().partition("\n\n")[0]
    count = {"One": 1, "Two": 2}[text.split()[0]]
    return count, re.findall(r"`([\w/]+/\w+\.(?:py|yaml))`", text)


def naming(name):
    """The code of the two packages in which the whole word `name` stands, or that is called so."""
    files = [
        file
        for package in ("spd_ray", "analysis")
        for kind in ("py", "yaml")
        for file in ROOT.glob(f"{package}/**/*.{kind}")
    ]
    word = re.compile(rf"\b{name}\b")
    return {file.relative_to(ROOT).as_posix() for file in files if file.stem == name or word.search(file.read_text())}


@pytest.mark.parametrize(
    ("heading", "example", "beside"),
    [
        ("A method", "theseus", {PRINTED}),
        ("A loss term", "first_token_loss", set()),
        ("A criterion", "movement_score", set()),
        ("A task", "qnli", {PRINTED, "spd_ray/config/presets/paper.yaml", "spd_ray/config/presets/mini.yaml"}),
        ("A figure", "pareto", set()),
        ("A check of the doctor", "check_compiler", set()),
    ],
)  # fmt: skip
def test_a_recipe_names_all_the_files_that_know_of_an_example(heading, example, beside):
    count, files = recipe(heading)
    assert len(files) == count
    expected = {file.replace("NAME", example) for file in files}
    assert naming(example) - beside == expected
