"""Fine-tuning that is broken off goes on from its last finished epoch, and gives the same bits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spd_ray.base.errors import StorageError
from spd_ray.records import layout
from spd_ray.records.storage import SweepStorage
from spd_ray.training.fine_tuning import adamw, fine_tune, rate_factor
from spd_ray.training.teacher import count_batches, make_teacher, new_classifier, read_origin, teacher_key
from spd_ray.trials.on_worker import Worker
from spd_ray.trials.tuning_states import drop_tuning_states, states_of

EPOCHS, STEPS_PER_EPOCH, RATE = 3, 8, 2e-3
SCORED = 1  # batches of dev, and of the training set


class BrokenOffError(Exception):
    pass


class Steps:
    """Counts steps, and breaks off before it has counted one more than `last`."""

    def __init__(self, last=EPOCHS * STEPS_PER_EPOCH):
        self.last, self.told = last, []

    def __call__(self, steps=1, note=""):
        if sum(self.told) + steps > self.last:
            raise BrokenOffError
        self.told.append(steps)


@pytest.fixture(params=["folder", "store"])
def place(request, tmp_path, monkeypatch) -> str:
    """A sweep's place: a folder, or the URI of one in a store, whose working copies are the test's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "disk"))
    (tmp_path / "bucket").mkdir()
    folder = tmp_path / "bucket" / "sweep"
    return folder.as_uri() if request.param == "store" else str(folder)


@pytest.fixture
def tune(tiny_teacher, place):
    """Fine-tunes with the states in `place`, with dropout and a warm-up that ends between two epochs."""
    data, config = tiny_teacher.teacher.data, tiny_teacher.configs[2]
    config = config.model_copy(update={"epochs": EPOCHS, "dropout": 0.1, "warmup_fraction": 0.5})

    def run(steps, states):
        return fine_tune(Path(tiny_teacher.configs[1].path), data, config, RATE, steps, states)

    return run


def states_in(place, key="content"):
    """As of a process that has just begun, which keeps a state of each epoch."""
    states = states_of(place, key, None, RATE)
    states.pace.share = 1.0
    return states


def kept_in(place):
    """The sweep's states, by the names of their folders."""
    folder = layout.states(Path(place.removeprefix("file://")))
    return sorted(path.name for path in folder.glob("teacher-*/*"))


def test_what_goes_on_after_an_epoch_is_bit_equal(tune, place):
    undisturbed = tune(Steps(), None)
    first = Steps(last=2 * STEPS_PER_EPOCH + 3)
    with pytest.raises(BrokenOffError):
        tune(first, states_in(place))
    assert kept_in(place) == [f"step-{2 * STEPS_PER_EPOCH:08d}"]
    torch.rand(5)  # another process draws other numbers before
    second = Steps()
    gone_on = tune(second, states_in(place))
    assert second.told == [2 * STEPS_PER_EPOCH, *[1] * STEPS_PER_EPOCH]
    other = dict(gone_on.named_parameters())
    assert all(torch.equal(weight, other[name]) for name, weight in undisturbed.named_parameters())
    third = Steps()
    assert torch.equal(tune(third, states_in(place)).classifier.weight, undisturbed.classifier.weight)
    assert third.told == [EPOCHS * STEPS_PER_EPOCH]


def test_a_state_of_other_content_is_not_gone_on_from(tune, place):
    tune(Steps(), states_in(place))
    for other in (
        states_in(place, "other"),
        states_of(place, "content", Worker(1, 1.0, 0), RATE),
        states_of(place, "content", None, 1e-3),
    ):
        assert other.load() is None
    assert states_in(place).load() is not None


def test_a_state_that_is_damaged_is_left(tune, place):
    tune(Steps(), states_in(place))
    (file,) = Path(place.removeprefix("file://")).glob("state/teacher-*/*/state.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    again = Steps()
    tune(again, states_in(place))
    assert again.told == [1] * EPOCHS * STEPS_PER_EPOCH


def test_states_take_a_share_of_the_time_and_the_end_has_one(tune, place):
    states, due = states_in(place), []
    states.pace.share = 1e-9
    save, states.save_if_due = states.save_if_due, lambda *a, **k: (due.append(states.pace.due), save(*a, **k))
    tune(Steps(), states)
    assert due == [True, False, False]
    assert kept_in(place) == [f"step-{EPOCHS * STEPS_PER_EPOCH:08d}"]


def test_they_are_gone_when_the_teacher_is_made(tune, place):
    tune(Steps(), states_in(place))
    storage = SweepStorage(place, "driver")
    drop_tuning_states(storage)
    assert storage.folders(layout.states(storage.folder)) == []
    of_trial = layout.state(storage.folder, "00000-s0", 8)
    of_trial.mkdir(parents=True)
    storage.send(of_trial)
    drop_tuning_states(storage)
    assert storage.folders(layout.states(storage.folder)) == [of_trial.parent]


def test_a_storage_that_refuses_them_is_said(tune, tmp_path):
    (tmp_path / "bucket" / "state").write_text("a file where a folder is to be")
    with pytest.raises(StorageError, match="the object store refuses"):
        tune(Steps(), states_in((tmp_path / "bucket").as_uri()))


def test_a_teacher_whose_process_is_lost_repeats_no_learning_rate(tiny_teacher, place, tmp_path):
    """Neither the one that was finished nor the epoch of the one under way."""
    task, model, settings = tiny_teacher.configs
    config = settings.model_copy(update={"epochs": EPOCHS, "learning_rates": (1e-3, 2e-3)})
    origin = read_origin(task, model, config)
    folders = [tmp_path / name for name in ("undisturbed", "lost", "again")]
    for folder in folders:
        folder.mkdir()
    expected = make_teacher(origin, config, folders[0], Steps(count_batches(config, origin.data)))

    def of_rate(learning_rate):
        states = states_of(place, origin.content["teacher"], None, learning_rate)
        states.pace.share = 1.0
        return states

    with pytest.raises(BrokenOffError):
        make_teacher(origin, config, folders[1], Steps((EPOCHS + 1) * STEPS_PER_EPOCH + SCORED + 1), of_rate)
    again = Steps(count_batches(config, origin.data))
    assert make_teacher(origin, config, folders[2], again, of_rate) == expected
    rest = (EPOCHS - 1) * STEPS_PER_EPOCH + SCORED + SCORED  # dev is scored, and train of the better one
    assert again.told == [EPOCHS * STEPS_PER_EPOCH, *[1] * SCORED, STEPS_PER_EPOCH, *[1] * rest]
    assert teacher_key(folders[2]) == teacher_key(folders[0])


def test_biases_and_norms_do_not_decay(tiny_teacher) -> None:
    model = new_classifier(Path(tiny_teacher.configs[1].path), tiny_teacher.teacher.data.task, 0.1)
    decaying, others = adamw(model, 0.01).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("bias" in names[id(p)] or "LayerNorm" in names[id(p)] for p in others["params"])
    assert len(decaying["params"]) + len(others["params"]) == len(names)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 1.0])
def test_the_rate_rises_then_falls_and_never_is_zero(fraction: float) -> None:
    factors = [rate_factor(step, 50, fraction) for step in range(50)]
    peak = factors.index(max(factors))
    assert max(factors) == 1.0
    assert min(factors) > 0
    assert (np.diff(factors[: peak + 1]) > 0).all()
    assert (np.diff(factors[peak + 1 :]) < 0).all()
