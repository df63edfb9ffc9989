"""A sweep's place before its first trial: what is continued, and what is refused."""

import pytest
import yaml

from spd_ray.base.errors import UserError
from spd_ray.config.load import load_spec
from spd_ray.driver.place import begin_or_continue, begun_content, begun_space, check_content, open_sweep
from spd_ray.records import layout
from spd_ray.records.provenance import TEACHER_FILES, write_sweep_yaml
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.study.study import create_study

SPACE = """\
task: {name: rte}
search: {p0: {choices: [0.2, 0.5, 0.8]}}
study: {sampler: grid, trials: 3}
"""


def nothing(spec):
    """A preflight that finds nothing."""


CONTENT = {"data": "d0", "model": "m0", "teacher": "t0", TEACHER_FILES: "f0"}


@pytest.fixture
def begun(tmp_path):
    """The specification and the storage of a sweep with one trial."""
    (tmp_path / "space.yaml").write_text(SPACE)
    spec = load_spec(tmp_path / "space.yaml")
    folder = tmp_path / "runs" / "space"
    folder.mkdir(parents=True)
    Ledger(spec, create_study(spec, layout.study_journal(folder)), folder).next_due()
    write_sweep_yaml(spec, folder, "a command", [], CONTENT)
    return spec, SweepStorage(str(folder), "driver")


def test_the_same_space_goes_on(begun):
    spec, storage = begun
    begin_or_continue(storage, spec, resume=True, replace=False, check_first=nothing)


def test_another_space_does_not_go_on(begun, tmp_path):
    _, storage = begun
    other = load_spec(tmp_path / "space.yaml", ["method.clip_norm=2"])
    words = r"was begun with method\.clip_norm = 1(\.0)?, and now it is 2(\.0)?; leave --space and --set out to go on"
    with pytest.raises(UserError, match=words):
        begin_or_continue(storage, other, resume=True, replace=False, check_first=nothing)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ("data", "the task's examples"),
        ("model", "the pretrained model's files"),
        (TEACHER_FILES, "the teacher's files"),
    ],
)
def test_other_content_under_the_same_names_is_refused(begun, changed, name):
    _, storage = begun
    check_content(storage.place, begun_content(storage), CONTENT)
    with pytest.raises(UserError) as caught:
        check_content(storage.place, begun_content(storage), {**CONTENT, changed: "x9"})
    assert str(caught.value) == (
        f"--resume: {storage.place} was begun with {name} of other content ({CONTENT[changed]}, now x9): "
        "put back what was there, or give another --name"
    )


def test_a_sweep_goes_on_by_its_name_alone(begun, tmp_path):
    spec, _ = begun
    assert load_spec(begun_space(str(tmp_path / "runs"), "space")).identity() == spec.identity()
    with pytest.raises(UserError, match=r"runs/other holds no sweep yet; --space FILE begins one"):
        begun_space(str(tmp_path / "runs"), "other")


def test_the_sweep_of_an_earlier_version_does_not_go_on(begun):
    """Its sweep.yaml names no version, and says `trial:` where `method:` stands now."""
    spec, storage = begun
    file = layout.sweep_yaml(storage.folder)
    content = yaml.safe_load(file.read_text())
    content["spec"]["trial"] = content["spec"].pop("method")
    del content["schema_version"]
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as caught:
        begin_or_continue(storage, spec, resume=True, replace=False, check_first=nothing)
    assert str(caught.value) == (
        f"--resume: {storage.place} was begun by an earlier version (its records' schema is 2 or older, now 3): "
        "`python -m analysis` still draws it, but it cannot go on; give another --name"
    )


def refuse(spec):
    raise UserError("the preflight's")


def test_what_the_preflight_refuses_leaves_nothing(begun, tmp_path):
    spec, _ = begun
    new = SweepStorage(str(tmp_path / "new/runs/space"), "driver")
    with pytest.raises(UserError, match="the preflight's"), open_sweep(new, spec, False, False, refuse):
        pass
    assert not (tmp_path / "new").exists()


def test_what_the_preflight_refuses_moves_nothing_aside(begun):
    spec, storage = begun
    before = sorted(storage.folder.parent.rglob("*"))
    with pytest.raises(UserError, match="the preflight's"):
        begin_or_continue(storage, spec, resume=False, replace=True, check_first=refuse)
    assert sorted(storage.folder.parent.rglob("*")) == before
