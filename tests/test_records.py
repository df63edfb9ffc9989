import pyarrow.parquet as pq
import pytest

from spd_ray import records

STEP = records.StepRecord(
    step=3, epoch=0.5, stage=1, split="batch", metric="loss", value=0.25, sparsity=0.5, seconds=0.01, draw="10", p=0.6
)


def trial(trial_id, **changes):
    configuration, seed = trial_id.split("-s")
    known = dict(
        trial_id=trial_id, configuration=int(configuration), seed=int(seed), status="running", method="spd",
        grafting="three_stage", pruning="magnitude", lr_schedule="two_decays", selection="dev",
        task="rte", model="bert", metric="accuracy", p0=0.6, total_epochs=6.0, stage1_epochs=3.0, stage2_epochs=1.0,
        stage1_lr=1e-3, stage23_lr=1e-3, target_sparsity=0.9, pruning_end=1.0, batch_size=32, precision="fp32",
        zero_stage=0, config="{}",
    )  # fmt: skip
    return records.TrialRecord(**{**known, **changes})


def test_steps_come_back_as_written(tmp_path):
    path = records.step_part(tmp_path, "00001-s0", 0, 4)
    records.write_parquet([STEP], records.STEP_SCHEMA, path)
    table = pq.read_table(path.parent.parent)
    assert table.column("draw").to_pylist() == ["10"]
    assert table.column("loss_task").to_pylist() == [None]
    assert [str(v) for v in table.column("trial").to_pylist()] == ["00001-s0"]
    assert pq.read_schema(path).metadata[b"spd_ray.schema_version"] == records.SCHEMA_VERSION.encode()


def test_the_same_range_overwrites(tmp_path):
    path = records.step_part(tmp_path, "00001-s0", 0, 4)
    for _ in range(2):
        records.write_parquet([STEP, STEP], records.STEP_SCHEMA, path)
    assert [file.name for file in path.parent.iterdir()] == ["00000000-00000004.parquet"]
    assert pq.read_metadata(path).num_rows == 2


def test_trials_round_trip_sorted(tmp_path):
    trials = [trial("00002-s0", best_score=0.5, feasible=True), trial("00001-s1", error="why")]
    records.write_trials(tmp_path, trials)
    assert records.read_trials(tmp_path) == trials[::-1]
    assert records.read_trials(tmp_path / "elsewhere") == []


def test_a_record_that_does_not_fit_the_schema_leaves_the_old_file(tmp_path):
    records.write_trials(tmp_path, [trial("00001-s0")])
    with pytest.raises(Exception, match="large"):
        records.write_trials(tmp_path, [trial("00001-s0", p0="large")])
    assert len(records.read_trials(tmp_path)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["trials.parquet"]
