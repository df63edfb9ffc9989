"""What is written comes back, whatever a kill leaves behind."""

import itertools
import json

import pyarrow.parquet as pq
import pytest

from spd_ray.records import layout
from spd_ray.records.parquet import write_parquet
from spd_ray.records.schema import SCHEMA_VERSION, STEP_SCHEMA, StepRecord, TrialRecord
from spd_ray.records.steps import compact_steps
from spd_ray.records.trials import TrialStore, read_trials, write_trials
from spd_ray.tracking.missed_points import read_evaluations

STEP = StepRecord(
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
    return TrialRecord(**{**known, **changes})


def test_steps_come_back_as_written(tmp_path):
    path = layout.step_part(tmp_path, "00001-s0", 0, 4)
    write_parquet([STEP], STEP_SCHEMA, path)
    table = pq.read_table(path.parent.parent)
    assert table.column("draw").to_pylist() == ["10"]
    assert table.column("loss_task").to_pylist() == [None]
    assert [str(v) for v in table.column("trial").to_pylist()] == ["00001-s0"]
    assert pq.read_schema(path).metadata[b"spd_ray.schema_version"] == SCHEMA_VERSION.encode()


def test_the_same_range_overwrites(tmp_path):
    path = layout.step_part(tmp_path, "00001-s0", 0, 4)
    for _ in range(2):
        write_parquet([STEP, STEP], STEP_SCHEMA, path)
    assert [file.name for file in path.parent.iterdir()] == ["00000000-00000004.parquet"]
    assert pq.read_metadata(path).num_rows == 2


def test_trials_round_trip_sorted(tmp_path):
    trials = [trial("00002-s0", best_score=0.5, feasible=True), trial("00001-s1", error="why")]
    write_trials(tmp_path, trials)
    assert read_trials(tmp_path) == trials[::-1]
    assert read_trials(tmp_path / "elsewhere") == []


def test_a_record_that_does_not_fit_the_schema_leaves_the_old_file(tmp_path):
    write_trials(tmp_path, [trial("00001-s0")])
    with pytest.raises(Exception, match="large"):
        write_trials(tmp_path, [trial("00001-s0", p0="large")])
    assert len(read_trials(tmp_path)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["trials.parquet"]


# trials.parquet and trials.journal.


def rows_of(folder):
    """What a reader of trials.parquet alone sees: id -> (status, best score)."""
    table = pq.read_table(folder / "trials.parquet").to_pylist()
    return {row["trial_id"]: (row["status"], row["best_score"]) for row in table}


def test_the_table_appears_with_the_first_trial_and_then_now_and_then(tmp_path):
    store = TrialStore(tmp_path)
    assert not (tmp_path / "trials.parquet").exists()
    store.put(trial("00000-s0"))
    assert rows_of(tmp_path) == {"00000-s0": ("running", None)}
    store.put(trial("00000-s0", status="finished", best_score=0.5), trial("00001-s0"))
    assert rows_of(tmp_path) == {"00000-s0": ("running", None)}  # five seconds are not over
    store.fold()
    assert rows_of(tmp_path) == {"00000-s0": ("finished", 0.5), "00001-s0": ("running", None)}
    assert not (tmp_path / "trials.journal").exists()
    store.pace.seconds, store.pace.share = 0.0, 1.0
    store.put(trial("00001-s0", status="stopped"))
    store.fold()
    store.put(trial("00002-s0"))
    assert rows_of(tmp_path)["00002-s0"] == ("running", None)


def test_what_a_killed_driver_had_put_is_there_when_the_store_is_opened_again(tmp_path):
    store = TrialStore(tmp_path)
    store.put(trial("00000-s0"), trial("00001-s0"))
    store.put(trial("00001-s0", status="finished", best_score=0.25, feasible=True))
    store.put(trial("00002-s0", error='"quoted"\nline'))
    assert len(rows_of(tmp_path)) == 2
    again = TrialStore(tmp_path)
    assert again.trials == store.trials
    assert read_trials(tmp_path) == [store.trials[trial_id] for trial_id in sorted(store.trials)]
    assert rows_of(tmp_path)["00001-s0"] == ("finished", 0.25)


def test_a_kill_between_the_table_and_the_end_of_the_journal_repeats_nothing(tmp_path):
    store = TrialStore(tmp_path)
    store.put(trial("00000-s0"))
    store.put(trial("00000-s0", status="finished", best_score=0.5))
    left = (tmp_path / "trials.journal").read_bytes()
    store.fold()
    (tmp_path / "trials.journal").write_bytes(left)
    again = TrialStore(tmp_path)
    assert again.trials == store.trials
    assert not (tmp_path / "trials.journal").exists()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_torn_last_line_costs_that_line_alone(kept, tmp_path):
    store = TrialStore(tmp_path)
    store.put(trial("00000-s0"))
    store.put(trial("00001-s0"))
    whole = (tmp_path / "trials.journal").read_bytes()
    store.put(trial("00000-s0", status="finished"))
    torn = (tmp_path / "trials.journal").read_bytes()[len(whole) :]
    (tmp_path / "trials.journal").write_bytes(whole + torn[: int(kept * len(torn))])
    again = TrialStore(tmp_path)
    assert {name: one.status for name, one in again.trials.items()} == {"00000-s0": "running", "00001-s0": "running"}
    again.put(trial("00002-s0"))
    assert len(read_trials(tmp_path)) == 3


def test_a_journal_that_is_no_journal_is_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "trials.journal").write_text("{broken}\n")
    with pytest.raises(json.JSONDecodeError):
        TrialStore(tmp_path)


# Parts of steps.


def step(index, **changes):
    known = {name: getattr(STEP, name) for name in StepRecord.__dataclass_fields__}
    return StepRecord(**{**known, "step": index, **changes})


def write_parts(folder, *spans, value=0.0):
    for first, last in spans:
        rows = [step(index, value=value + index) for index in range(first, last)]
        rows.append(step(last, split="dev", metric="accuracy", value=last / 100, draw=None))
        write_parquet(rows, STEP_SCHEMA, layout.step_part(folder, "00001-s0", first, last))


def names_of(folder):
    return sorted(file.name for file in (folder / "steps" / "trial=00001-s0").iterdir())


def test_the_parts_of_a_trial_become_one_with_the_same_rows_in_the_same_order(tmp_path):
    write_parts(tmp_path, (4, 8), (0, 4), (8, 9))
    before = pq.read_table(tmp_path / "steps").to_pylist()
    compact_steps(tmp_path, "00001-s0")
    assert names_of(tmp_path) == ["00000000-00000009.parquet"]
    assert pq.read_table(tmp_path / "steps").to_pylist() == before
    schema = pq.read_schema(layout.step_part(tmp_path, "00001-s0", 0, 9))
    assert schema.equals(STEP_SCHEMA, check_metadata=True)
    written = layout.step_part(tmp_path, "00001-s0", 0, 9).stat().st_mtime_ns
    compact_steps(tmp_path, "00001-s0")
    assert layout.step_part(tmp_path, "00001-s0", 0, 9).stat().st_mtime_ns == written


def test_a_compaction_that_was_killed_is_done_again(tmp_path):
    spans = [(0, 4), (4, 8), (8, 9)]
    for removed in itertools.chain.from_iterable(itertools.combinations(spans, count) for count in range(4)):
        write_parts(tmp_path, *spans)
        parts = {span: layout.step_part(tmp_path, "00001-s0", *span).read_bytes() for span in spans}
        rows = pq.read_table(tmp_path / "steps").to_pylist()
        compact_steps(tmp_path, "00001-s0")
        for span in set(spans) - set(removed):
            layout.step_part(tmp_path, "00001-s0", *span).write_bytes(parts[span])
        compact_steps(tmp_path, "00001-s0")
        assert names_of(tmp_path) == ["00000000-00000009.parquet"]
        assert pq.read_table(tmp_path / "steps").to_pylist() == rows
        layout.step_part(tmp_path, "00001-s0", 0, 9).unlink()


def test_a_trial_that_goes_on_after_its_parts_became_one(tmp_path):
    write_parts(tmp_path, (0, 4), (4, 8))
    compact_steps(tmp_path, "00001-s0")  # the driver died before it noted the end
    write_parts(tmp_path, (4, 8), (8, 9))  # from the state before the last evaluation
    compact_steps(tmp_path, "00001-s0")
    assert names_of(tmp_path) == ["00000000-00000009.parquet"]
    assert pq.read_metadata(layout.step_part(tmp_path, "00001-s0", 0, 9)).num_rows == 9 + 3


@pytest.mark.parametrize("spans", [[(0, 4), (2, 6)], [(0, 4), (6, 8)]], ids=["overlap", "gap"])
def test_parts_that_do_not_follow_each_other_stay(spans, tmp_path):
    write_parts(tmp_path, *spans)
    before = names_of(tmp_path)
    compact_steps(tmp_path, "00001-s0")
    assert names_of(tmp_path) == before


def test_a_trial_without_steps_has_nothing_to_compact(tmp_path):
    compact_steps(tmp_path, "00001-s0")
    assert list(tmp_path.iterdir()) == []


def test_a_trial_whose_first_part_found_no_room_has_no_evaluations(tmp_path):
    folder = layout.steps(tmp_path, "00000-s0")
    assert read_evaluations(folder, "dev", "accuracy") == []
    folder.mkdir(parents=True)
    assert read_evaluations(folder, "dev", "accuracy") == []
