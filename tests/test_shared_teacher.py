"""The one teacher of a sweep: it lies in the storage by content, and no machine takes another for it."""

import shutil
from pathlib import Path

import pytest

from spd_ray.base.errors import UserError
from spd_ray.config.load import load_spec
from spd_ray.driver import run
from spd_ray.records import layout
from spd_ray.records.provenance import TEACHER_FILES, write_sweep_yaml
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.study.study import create_study
from spd_ray.trials.shared_teacher import fetch_teacher, has_teacher, send_teacher, worker_teacher


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a store; working copies and cache are the test's own."""
    (tmp_path / "bucket").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "disk"))
    monkeypatch.setenv("SPD_RAY_CACHE", str(tmp_path / "cache"))
    return (tmp_path / "bucket").as_uri()


@pytest.mark.parametrize("is_remote", [True, False])
def test_a_worker_has_the_drivers_teacher_bit_for_bit(tiny_teacher, store, tmp_path, is_remote):
    place = store if is_remote else str(tmp_path / "bucket")
    teacher, storage = tiny_teacher.teacher, SweepStorage(place, "driver")
    earlier = layout.teacher(storage.folder, "0123")
    earlier.mkdir(parents=True)
    (earlier / "config.json").write_text("{}")
    storage.send(earlier)
    send_teacher(teacher, storage)
    assert has_teacher(storage, teacher.files_key)
    assert not has_teacher(storage, "0123")
    found = worker_teacher(place, tiny_teacher.configs[0], teacher.content)
    assert found.folder == tmp_path / "cache" / "shared-teachers" / teacher.files_key
    assert (found.content, found.score, found.train_score) == (teacher.content, teacher.score, teacher.train_score)
    assert all((weight == teacher.model.state_dict()[name]).all() for name, weight in found.model.state_dict().items())
    shutil.rmtree(tmp_path / "bucket")
    assert fetch_teacher(storage, teacher.files_key) == found.folder  # once a machine


def test_a_teacher_of_other_content_is_refused_and_not_kept(tiny_teacher, store, tmp_path):
    teacher, storage = tiny_teacher.teacher, SweepStorage(store, "driver")
    with pytest.raises(UserError, match=rf"{store}/teacher/{teacher.files_key}: the sweep's teacher is not there$"):
        fetch_teacher(storage, teacher.files_key)
    send_teacher(teacher, storage)
    file = tmp_path / "bucket" / "teacher" / teacher.files_key / "config.json"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(UserError) as caught:
        worker_teacher(store, tiny_teacher.configs[0], teacher.content)
    assert f"{store}/teacher/{teacher.files_key}: the teacher's files are not those" in str(caught.value)
    assert not list((tmp_path / "cache" / "shared-teachers").glob("[!.]*/"))


def test_a_machine_with_other_examples_runs_no_trial(tiny_teacher, store, tmp_path):
    teacher, task = tiny_teacher.teacher, tiny_teacher.configs[0]
    send_teacher(teacher, SweepStorage(store, "driver"))
    folder = shutil.copytree(Path(task.path), tmp_path / "data")
    rows = (folder / "dev.tsv").read_text().splitlines()
    (folder / "dev.tsv").write_text("\n".join([rows[0], *reversed(rows[1:])]) + "\n")
    with pytest.raises(UserError, match=r"the examples of sst2 are others here than those that the teacher was"):
        worker_teacher(store, task.model_copy(update={"path": str(folder)}), teacher.content)


def test_a_sweep_that_goes_on_has_the_teacher_that_it_was_begun_with_and_makes_none(
    tiny_teacher, store, tmp_path, monkeypatch
):
    """The cache is empty, as on another machine, where the same recipe could give other bits."""
    monkeypatch.setattr(run, "make_teacher", lambda *_: pytest.fail("it is made again"))
    task, model, settings = (config.model_dump(mode="json") for config in tiny_teacher.configs)
    space = {"name": "begun", "task": task, "model": model, "teacher": settings}
    spec = load_spec({**space, "search": {"p0": {"choices": [0.5, 1.0]}}})
    teacher, storage = tiny_teacher.teacher, SweepStorage(str(tmp_path / "begun"), "driver")
    storage.folder.mkdir()
    send_teacher(teacher, storage)
    Ledger(spec, create_study(spec, layout.study_journal(storage.folder)), storage.folder).next_due()
    write_sweep_yaml(spec, storage.folder, "a command", [], teacher.content)
    found = run.find_teacher(spec, storage, worker=None)
    assert (found.content, found.folder.name) == (teacher.content, teacher.files_key)


def test_the_hash_is_of_the_files(tiny_teacher, tmp_path):
    teacher = tiny_teacher.teacher
    assert teacher.content[TEACHER_FILES] == teacher.files_key
    assert set(teacher.content) == {"data", "model", "teacher", TEACHER_FILES}
