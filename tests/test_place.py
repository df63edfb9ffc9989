"""A sweep's place before its first trial: what is continued, and what is refused."""

import pytest
import yaml

from spd_ray.base.errors import UserError
from spd_ray.config.load import load_spec
from spd_ray.driver.place import begin_or_continue, open_sweep
from spd_ray.records import layout
from spd_ray.records.provenance import write_sweep_yaml
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


@pytest.fixture
def begun(tmp_path):
    """The specification and the storage of a sweep with one trial."""
    (tmp_path / "space.yaml").write_text(SPACE)
    spec = load_spec(tmp_path / "space.yaml")
    folder = tmp_path / "runs" / "space"
    folder.mkdir(parents=True)
    Ledger(spec, create_study(spec, layout.study_journal(folder)), folder).next_due()
    write_sweep_yaml(spec, folder, "a command", [])
    return spec, SweepStorage(str(folder), "driver")


def test_the_same_space_goes_on(begun):
    spec, storage = begun
    begin_or_continue(storage, spec, resume=True, replace=False, check_first=nothing)


def test_another_space_does_not_go_on(begun, tmp_path):
    _, storage = begun
    other = load_spec(tmp_path / "space.yaml", ["method.clip_norm=2"])
    with pytest.raises(UserError, match=r"--resume: .* was swept with another space or other --set"):
        begin_or_continue(storage, other, resume=True, replace=False, check_first=nothing)


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
