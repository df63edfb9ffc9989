"""Commands where nothing is installed: help and version work, what is missing is one line with what installs it."""

import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import spd_ray
from analysis.__main__ import NEEDS
from spd_ray.base import installation
from spd_ray.base.errors import UserError
from spd_ray.base.installation import IMPORTED_AS, name_missing_package, own_command, package_name, requirements

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = {"spd_ray.sweep": "sweep", "spd_ray.pretrain": "sweep", "spd_ray.doctor": "sweep", "analysis": "analysis",
            "spd_ray.show": "analysis", "spd_ray.deploy": "sweep", "spd_ray.push": "sweep"}  # fmt: skip
FORGIVEN = {"optuna", "scikit-learn"}  # analysis leaves out the importances without them


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Run Python with arguments where only the source tree is; the folder also holds one called ray."""
    place = tmp_path_factory.mktemp("bare")
    (place / "ray").mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-S", *arguments]  # -S: without what is installed
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(words, capture_output=True, text=True, cwd=place, env=environment)

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_version_need_nothing(bare, command):
    done = bare("-m", command, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"spd_ray {PROJECT['version']}\n", "")
    done = bare("-m", command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m {command} ")


@pytest.mark.parametrize(
    ("arguments", "needed_by"),
    [
        (["-m", "spd_ray.sweep", "--space", "x.yaml"], "spd_ray.sweep"),
        (["-m", "spd_ray.sweep", "--dry-run", "--method", "spd"], "spd_ray.sweep"),
        (["-m", "spd_ray.pretrain", "--corpus", "x", "--out", "y"], "spd_ray.pretrain"),
        (["-m", "analysis", "--runs", "runs"], "analysis"),
        (["-m", "spd_ray.deploy", "x", "--out", "y"], "spd_ray.deploy"),
        (["-m", "spd_ray.push", "x", "--to", "a/b"], "spd_ray.push"),
    ],
)
def test_what_is_missing_is_one_line_that_names_the_extra(bare, arguments, needed_by):
    done = bare(*arguments)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith(f"error: {needed_by} needs the package ")
    assert line.endswith(f": pip install 'spd_ray[{COMMANDS[needed_by]}]'")


def test_the_doctor_names_what_is_missing_and_a_folder_that_is_no_ray(bare):
    done = bare("-m", "spd_ray.doctor")
    versions, *_, ray = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    assert all(f"{line} (here: none)" in versions for line in PROJECT["optional-dependencies"]["sweep"])
    assert "ray only has its name, and is imported in its place; mend: pip install 'spd_ray[sweep]'" in ray


@pytest.mark.parametrize("function", ["run_sweep", "load_sparse", "load_semi_structured"])
def test_importing_spd_ray_needs_nothing_and_its_functions_say_what(bare, function):
    code = f"import spd_ray\ntry: spd_ray.{function}('x')\nexcept spd_ray.UserError as error: print(error)"
    done = bare("-c", code)
    assert done.stdout.startswith(f"spd_ray.{function} needs the package "), done.stderr


def test_only_a_package_of_the_extra_is_translated():
    for missing in ("a_module_of_nobody", "ray.not_there"):
        with pytest.raises(ModuleNotFoundError), name_missing_package("sweep", "x"):
            __import__(missing)
    with pytest.raises(UserError, match="x needs the package scikit-learn: pip"), name_missing_package("sweep", "x"):
        raise ModuleNotFoundError(name="sklearn")


def test_the_version_and_the_extras_are_those_of_the_project_also_where_it_is_not_installed(monkeypatch):
    assert spd_ray.__version__ == PROJECT["version"]
    monkeypatch.setattr(installation.metadata, "requires", lambda name: ["a>=1; extra == 'sweep'", "b; extra == 'dev'"])
    assert requirements("sweep") == ["a>=1"]

    def refuse(name):
        raise installation.metadata.PackageNotFoundError

    monkeypatch.setattr(installation.metadata, "requires", refuse)
    assert requirements("sweep") == PROJECT["optional-dependencies"]["sweep"]


def test_the_analysis_knows_its_extra():
    needed = {package_name(line) for line in PROJECT["optional-dependencies"]["analysis"]} - FORGIVEN
    assert {IMPORTED_AS.get(name, name): name for name in needed} == NEEDS


def test_an_own_command_can_be_pasted_whatever_is_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    command = own_command("timeit", "-n1", "-r1", "print('a b#c')")
    assert command.startswith(shlex.quote(sys.executable))
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "a b#c"
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert own_command("analysis", "--sweep", "my runs") == "python -m analysis --sweep 'my runs'"
