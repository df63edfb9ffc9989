"""What a trial takes up when it begins on another machine: what a store has of it, and nothing of another trial."""

import weakref
from pathlib import Path

import pytest

from spd_ray.config.method import MethodConfig
from spd_ray.config.trial import EngineConfig, TrialConfig
from spd_ray.records import layout
from spd_ray.records.storage import SweepStorage
from spd_ray.trials.ranks import FirstRank, Rank
from spd_ray.trials.request import TrialRequest
from spd_ray.trials.runner import TrialRunner
from spd_ray.trials.shared_teacher import send_teacher
from tests.integration.test_trainer import SHORT


@pytest.fixture
def runner_of(tiny_teacher, tmp_path, monkeypatch):
    """Makes the runner of trial 00000-s0 in a store, on a disk of the name given."""
    store = tmp_path / "store"
    store.mkdir()
    task, model, settings = tiny_teacher.configs
    send_teacher(tiny_teacher.teacher, SweepStorage(store.as_uri(), "driver"))

    def make(disk: str, engine: EngineConfig | None = None, state_seconds: float = 0.0, **changes):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / disk))
        method = MethodConfig(**{**SHORT, **changes})
        own = engine or EngineConfig()
        config = TrialConfig(task=task, model=model, teacher=settings, method=method, engine=own, seed=0)
        return TrialRunner(
            TrialRequest(
                trial_id="00000-s0",
                config=config,
                place=store.as_uri(),
                content=tiny_teacher.teacher.content,
                gpus=0.0,
                state_seconds=state_seconds,
            )
        )

    make.store = store
    return make


def steps_in(store: Path) -> list[str]:
    return sorted(part.name for part in layout.steps(store, "00000-s0").glob("*.parquet"))


def test_a_trial_goes_on_on_another_machine_from_what_the_store_has(runner_of):
    store, first = runner_of.store, runner_of("one")
    part = first.advance()
    first.advance()  # the state before is written behind its back
    first.close()
    second = runner_of("two")
    assert second.standing == part
    assert second.advance() == part  # reported again: a driver that has died may not have received it
    while not second.done:
        second.advance()
    states = layout.trial_states(store, "00000-s0")
    assert [state.name for state in states.iterdir()] == [f"step-{second.standing.step:08d}"]
    assert steps_in(store) == [f"{0:08d}-{second.standing.step:08d}.parquet"]
    assert (store / "checkpoints" / "00000-s0" / "model.safetensors").exists()
    second.close()
    assert [path for path in second.storage.folder.rglob("*") if path.is_file()] == []


def test_a_state_of_another_configuration_is_left_aside_with_its_steps(runner_of):
    first = runner_of("one")
    first.advance()
    first.advance()
    first.close()
    assert steps_in(runner_of.store)
    second = runner_of("one", p0=0.25)
    assert (second.standing.step, second.run.step) == (0, 0)
    assert steps_in(runner_of.store) == []
    second.close()


def test_a_rank_above_0_keeps_no_runner_of_a_closed_trial(runner_of):
    rank = Rank()
    rank.runner = runner_of("one")
    left = weakref.ref(rank.runner)
    rank.close()
    assert left() is None


@pytest.mark.parametrize(("precision", "zero_stage"), [("fp32", 0), ("bf16", 2), ("fp32", 3)])
def test_nothing_of_a_closed_trial_stays_in_memory(runner_of, precision, zero_stage):
    runner = runner_of("one", EngineConfig(precision=precision, zero_stage=zero_stage))
    runner.advance()
    run = runner.run
    held = {
        "run": run,
        "model": run.model,
        "engine": run.engine,
        "optimizer": run.engine.optimizer,
    }
    left = {name: weakref.ref(thing) for name, thing in held.items()}
    del run, held
    runner.close()
    assert [name for name, thing in left.items() if thing() is not None] == []


def test_what_a_user_can_mend_ends_the_trial_at_once(tiny_teacher, tmp_path):
    """No retry: 60 examples in batches of 32 are 2 steps, too few for a level between 12 events."""
    task, model, settings = tiny_teacher.configs
    method = MethodConfig(**{**SHORT, "total_epochs": 3, "stage1_epochs": 1, "stage2_epochs": 1, "batch_size": 32})
    send_teacher(tiny_teacher.teacher, SweepStorage(str(tmp_path), "driver"))
    method = MethodConfig(**{**method.model_dump(), "pruning_events": 12, "target_sparsity": 0.9, "ladder": (0.5,)})
    config = TrialConfig(task=task, model=model, teacher=settings, method=method, seed=0)
    first = object.__new__(FirstRank)
    first.others, first.runner = [], None
    first.request = TrialRequest(
        trial_id="00000-s0",
        config=config,
        place=str(tmp_path),
        content=tiny_teacher.teacher.content,
        gpus=0.0,
        state_seconds=0.0,
    ).to_dict()
    result = first.step()
    assert result["done"]
    assert result["error"].startswith("method.ladder: no pruning event stops at 0.5")
