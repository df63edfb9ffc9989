"""Reading of sweeps: folders, Parquet files, schema versions, and what changes while it is read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_made_sweep import P, batch, evaluation, trial, write_steps, write_sweep
from pyarrow import fs

from analysis.__main__ import main
from analysis.errors import AnalysisError
from analysis.figures import fig04
from analysis.reading import evaluations
from analysis.reading.description import SCHEMA_VERSIONS, Description, parse_description
from analysis.reading.folders import Folder, open_folder
from analysis.reading.sweeps import Sweep, read_sweep, read_sweeps
from analysis.reading.tasks import IMITATES
from analysis.reading.trials import flat_config
from spd_ray.data.miniature import MINI_TASKS
from spd_ray.records import layout
from spd_ray.records.parquet import write_parquet
from spd_ray.records.schema import STEP_SCHEMA, TRIAL_SCHEMA
from spd_ray.records.steps import compact_steps
from spd_ray.records.trials import write_trials


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)


def test_steps_join_parts_in_order_without_evaluations(sweep: Path) -> None:
    rows = read_sweep(sweep).steps("1-s1", ["p", "step"], "batch", "loss")
    assert rows["step"].tolist() == list(range(8))
    assert rows["p"].tolist() == P  # exact in float32
    dev = read_sweep(sweep).steps("1-s1", ["step", "value"], "dev", "accuracy")
    assert dict(zip(dev["step"].tolist(), dev["value"].tolist(), strict=True)) == {4: 0.7, 6: 0.86, 8: 0.85}


def test_a_step_in_two_parts_counts_once_as_the_later_part_has_it(tmp_path: Path) -> None:
    write_steps(tmp_path, "0-s0", 0, 4, [batch(step, value=1.0) for step in range(4)])
    write_steps(tmp_path, "0-s0", 2, 6, [batch(step, value=2.0) for step in range(2, 6)])
    rows = Sweep(open_folder(tmp_path), ()).steps("0-s0", ["step", "value"], "batch", "loss")
    assert rows["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert rows["value"].tolist() == [1.0, 1.0, 2.0, 2.0, 2.0, 2.0]


def test_a_part_that_is_being_written_is_not_read(sweep: Path) -> None:
    (sweep / "steps" / "trial=1-s1" / ".half.tmp").write_bytes(b"PAR1")
    assert len(read_sweep(sweep).steps("1-s1", ["step"], "batch", "loss")["step"]) == 8


def test_missing_values_are_nan(tmp_path: Path) -> None:
    write_steps(tmp_path, "0-s0", 0, 2, [batch(0), batch(1, p=None)])
    p = Sweep(open_folder(tmp_path), ()).steps("0-s0", ["p"], "batch", "loss")["p"]
    assert p[0] == 0.5
    assert np.isnan(p[1])


def test_the_tracking_server_is_that_of_the_sweep(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, mlflow_run_id="abcdef0123")])
    (tmp_path / "sweep.yaml").write_text(
        "spec:\n  study:\n    sampler: random\n    trials: 8\n  tracking:\n    uri: http://head:5000\n    name: x\n"
    )
    found = read_sweep(tmp_path)
    assert (found.description.sampler, found.description.tracking_uri) == ("random", "http://head:5000")
    (tmp_path / "sweep.yaml").write_text("spec:\n  tracking:\n    uri: null\n  other:\n    sampler: grid\n")
    found = read_sweep(tmp_path)
    assert (found.description.sampler, found.description.tracking_uri) == (None, None)


def test_runs_are_found_two_levels_deep_and_named_by_their_folder(tmp_path: Path) -> None:
    for place in ("b", "x/a", "x/y/too_deep", ".hidden"):
        write_trials(tmp_path / place, [trial(0)])
    problems: list[str] = []
    assert [sweep.name for sweep in read_sweeps(tmp_path, problems.append)] == ["a", "b"]
    assert [sweep.name for sweep in read_sweeps(tmp_path / "b", problems.append)] == ["b"]
    assert problems == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnalysisError, match="empty: holds no sweep"):
        read_sweeps(tmp_path / "empty", problems.append)


def test_a_uri_is_read_as_a_path_is(sweep: Path, tmp_path: Path) -> None:
    problems: list[str] = []
    (found,) = read_sweeps(sweep.as_uri(), problems.append)
    assert found.trials == read_sweep(sweep).trials
    assert found.steps("1-s1", ["step"], "batch", "loss")["step"].tolist() == list(range(8))
    assert found.evaluations.of("1-s1", "dev", "accuracy")[1].tolist() == [0.7, 0.86, 0.85]
    with pytest.raises(AnalysisError, match="--out is needed"):
        main(["--runs", sweep.as_uri()])
    with pytest.raises(AnalysisError, match="nowhere://x: cannot be opened"):
        read_sweep("nowhere://x")


def test_another_file_system_is_read_as_this_machines_is(sweep: Path) -> None:
    remote = fs._MockFileSystem()
    fs.copy_files(str(sweep), "bucket/runs/one", source_filesystem=fs.LocalFileSystem(), destination_filesystem=remote)
    problems: list[str] = []
    (found,) = read_sweeps(Folder(remote, "bucket/runs", "s3://bucket/runs"), problems.append)
    assert found.name == "one"
    assert found.evaluations.of("1-s1", "train", "accuracy")[1].tolist() == [0.9]
    assert fig04.compute([found]).p.tolist() == P


def test_evaluations_of_a_restarted_trial_count_once_as_the_later_part_has_them(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0), trial(1)])
    write_steps(tmp_path, "0-s0", 0, 4, [batch(0), evaluation(2, "dev", 0.1), evaluation(4, "dev", 0.2)])
    write_steps(tmp_path, "0-s0", 2, 6, [evaluation(4, "dev", 0.3), evaluation(2, "train", 0.8)])
    write_steps(tmp_path, "1-s0", 0, 4, [evaluation(4, "dev", 0.9), evaluation(4, "dev", 1.5, metric="loss")])
    found = read_sweep(tmp_path).evaluations
    assert [part.tolist() for part in found.of("0-s0", "dev", "accuracy")] == [[2, 4], [0.1, 0.3]]
    assert [part.tolist() for part in found.of("0-s0", "train", "accuracy")] == [[2], [0.8]]
    assert [part.tolist() for part in found.of("1-s0", "dev", "loss")] == [[4], [1.5]]
    assert [part.tolist() for part in found.of("2-s0", "dev", "accuracy")] == [[], []]


def test_a_trial_whose_parts_become_one_while_they_are_read_is_read_once_and_whole(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = evaluations._scan, []

    def meanwhile(steps: Folder, parts: list[Folder]) -> list[pa.Table | None]:
        calls.append(len(parts))
        compact_steps(sweep, "1-s1")  # listed before, gone or about to go when they are opened
        return read(steps, parts)

    before = read_sweep(sweep).evaluations
    monkeypatch.setattr(evaluations, "_scan", meanwhile)
    found = read_sweep(sweep).evaluations
    assert calls == [2, 1]
    assert found.rows == before.rows
    assert found.value.tolist() == before.value.tolist()


@pytest.mark.parametrize("removed", [(), ((0, 4),), ((0, 4), (4, 8))])
def test_a_kill_between_the_whole_and_its_parts_changes_nothing_that_is_read(removed: tuple, sweep: Path) -> None:
    def everything() -> tuple:
        of_all, of_one = read_sweep(sweep), read_sweep(sweep).steps("1-s1", ["p", "step"], "batch", "loss")
        return of_all.evaluations.rows, of_all.evaluations.value.tolist(), of_one["p"].tolist(), of_one["step"].tolist()

    before = everything()
    parts = {span: layout.step_part(sweep, "1-s1", *span).read_bytes() for span in ((0, 4), (4, 8))}
    compact_steps(sweep, "1-s1")
    for span in set(parts) - set(removed):
        layout.step_part(sweep, "1-s1", *span).write_bytes(parts[span])
    assert everything() == before
    compact_steps(sweep, "1-s1")
    assert [file.name for file in (sweep / "steps" / "trial=1-s1").iterdir()] == ["00000000-00000008.parquet"]
    assert everything() == before


def test_a_sweep_that_goes_away_while_it_is_read(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = evaluations._scan

    def replaced(steps: Folder, parts: list[Folder]) -> list[pa.Table | None]:
        shutil.rmtree(sweep / "steps")
        return read(steps, parts)

    monkeypatch.setattr(evaluations, "_scan", replaced)
    assert read_sweep(sweep).evaluations.rows == {}


def test_no_trials_file(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"holds no trials\.parquet"):
        read_sweep(tmp_path)


def test_a_broken_trials_file(tmp_path: Path) -> None:
    (tmp_path / "trials.parquet").write_bytes(b"PAR1 but nothing more")
    with pytest.raises(AnalysisError, match=r"trials\.parquet: cannot be read as a sweep's Parquet file"):
        read_sweep(tmp_path)


@pytest.mark.parametrize(("metadata", "found"), [({"spd_ray.schema_version": "1"}, "1"), (None, "none")])
def test_another_schema_version(metadata: dict[str, str] | None, found: str, tmp_path: Path) -> None:
    write_parquet([trial(0)], TRIAL_SCHEMA.with_metadata(metadata), tmp_path / "trials.parquet")
    with pytest.raises(AnalysisError, match=rf"trials\.parquet: schema version {found} .*not 2 or 3"):
        read_sweep(tmp_path)


def test_another_schema_version_of_the_steps(sweep: Path) -> None:
    write_parquet(
        [batch(0)], STEP_SCHEMA.with_metadata({"spd_ray.schema_version": "0"}), layout.step_part(sweep, "1-s1", 0, 1)
    )
    with pytest.raises(AnalysisError, match=r"00000000-00000001\.parquet: schema version 0 .*not 2 or 3"):
        fig04.compute([read_sweep(sweep)])


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    table = pa.table({"trial_id": ["0-s0"]}).replace_schema_metadata({"spd_ray.schema_version": "2"})
    pq.write_table(table, tmp_path / "trials.parquet")
    with pytest.raises(AnalysisError, match=r"trials\.parquet: cannot be read .*configuration"):
        read_sweep(tmp_path)


@pytest.mark.parametrize("version", SCHEMA_VERSIONS)
def test_each_schema_version_is_read_as_the_newest(version: str, tmp_path: Path) -> None:
    method: dict = {"p0": 0.6, "engine": {"zero_stage": 0}}
    config = {"2": {"seed": 0, "method_name": "spd", "method": method},
              "3": {"seed": 0, "method": {"name": "spd", **method}}}[version]  # fmt: skip
    metadata = {"spd_ray.schema_version": version}
    write_parquet([trial(0, config=json.dumps(config))], TRIAL_SCHEMA.with_metadata(metadata),
                  tmp_path / "trials.parquet")  # fmt: skip
    write_parquet([batch(0), evaluation(1, "dev", 0.7)], STEP_SCHEMA.with_metadata(metadata),
                  layout.step_part(tmp_path, "0-s0", 0, 1))  # fmt: skip
    section = {"2": "trial", "3": "method"}[version]
    (tmp_path / "sweep.yaml").write_text(f"spec:\n  {section}:\n    p0: 0.6\n  study:\n    sampler: grid\n")
    sweep = read_sweep(tmp_path)
    assert flat_config(sweep.trials[0]) == {
        "seed": "0", "method.name": '"spd"', "method.p0": "0.6", "method.engine.zero_stage": "0"
    }  # fmt: skip
    assert sweep.steps("0-s0", ["step"], "batch", "loss")["step"].tolist() == [0]
    assert sweep.evaluations.of("0-s0", "dev", "accuracy")[1].tolist() == [0.7]
    assert sweep.description == Description("grid", None)


@pytest.mark.parametrize("text", ["", "spec: [", "spec: 3", "just words", "spec:\n  study: null\n"])
def test_a_sweep_yaml_that_says_nothing(text: str) -> None:
    assert parse_description(text) == Description(None, None)


def test_the_synthetic_tasks_are_those_of_the_miniature() -> None:
    assert set(IMITATES) == set(MINI_TASKS)
