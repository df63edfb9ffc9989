"""A trial's states by the clock: when one is saved, that training does not wait for it, what a failure leaves."""

import shutil
import threading
from collections import OrderedDict
from concurrent.futures import wait
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

from spd_ray.engine.engine_state import TENSORS
from spd_ray.records import layout
from spd_ray.training import recording
from tests.integration.test_trial import runner_of  # noqa: F401


@pytest.fixture
def clock(monkeypatch):
    """The states' clock; `now` moves when a test says so."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("spd_ray.trials.states.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def written(monkeypatch):
    """What is called in the place of `save_file`, in the thread that writes states."""
    written = SimpleNamespace(by=save_file, calls=0)

    def write(tensors, file):
        written.calls += 1
        written.by(tensors, file)

    monkeypatch.setattr("spd_ray.engine.engine_state.save_file", write)
    return written


def states_of(runner):
    return [state.name for state in layout.states_by_age(runner.storage.folder, "00000-s0")]


def scores_to_the_end(runner):
    found = []
    while not runner.done:
        standing = runner.advance()
        found.append((standing.step, standing.score, standing.course))
    return found


def test_states_are_saved_by_the_clock_and_the_end_needs_no_tensors(runner_of, clock, written):  # noqa: F811
    runner = runner_of("one", state_seconds=25.0, eval_every_epochs=1)  # six evaluations, ten seconds each
    saved = []
    while not runner.done:
        runner.advance()
        runner.states._wait()
        saved.append(written.calls)
        clock.now += 10.0
    assert saved == [0, 0, 0, 1, 1, 1]  # at the start of the fourth, 30 s; 25 s more would have been at 60 s
    (end,) = layout.states_by_age(runner.storage.folder, "00000-s0")
    assert {file.name for file in end.iterdir()} == {"standing.json", "SHA256SUMS"}
    again = runner_of("two", eval_every_epochs=1)
    assert again.done
    assert again.advance() == runner.standing
    for one in (runner, again):
        one.close()


def test_training_goes_on_before_a_slow_writer_ends_and_its_state_stays_as_it_was(runner_of, written):  # noqa: F811
    undisturbed = runner_of("undisturbed", eval_every_epochs=1)
    expected = scores_to_the_end(undisturbed)
    undisturbed.close()
    shutil.rmtree(runner_of.store)
    runner_of.store.mkdir()
    go_on, copied = threading.Event(), {}

    def write_slowly(tensors, file):
        copied.update({name: tensor.clone() for name, tensor in tensors.items()})
        assert go_on.wait(60)
        save_file(tensors, file)

    written.by, written.calls = write_slowly, 0
    runner = runner_of("one", eval_every_epochs=1)
    first = runner.advance()
    for _ in range(3):
        runner.advance()
    assert (states_of(runner), written.calls) == ([], 1)  # one in flight, and one copy in memory
    go_on.set()
    runner.close()  # as a trial that is stopped
    state = layout.state(runner_of.store, "00000-s0", first.step)
    saved = load_file(state / TENSORS)
    assert saved.keys() == copied.keys()
    assert all(saved[name].equal(copied[name]) for name in saved)

    written.by = save_file
    resumed = runner_of("two", eval_every_epochs=1)
    assert resumed.advance() == first
    assert scores_to_the_end(resumed) == expected[1:]
    resumed.close()


def test_a_state_that_cannot_be_written_leaves_the_older_one_and_is_told_at_the_next(runner_of, written):  # noqa: F811
    runner = runner_of("one", eval_every_epochs=1)
    runner.advance()
    runner.advance()
    runner.states._wait()
    before = states_of(runner)
    assert len(before) == 1

    def refuse(tensors, file):
        raise OSError(28, "No space left on device")

    written.by = refuse
    runner.advance()
    wait([runner.states._writing])
    with pytest.raises(OSError, match="No space left"):
        runner.advance()
    assert states_of(runner) == before
    runner.close()


@pytest.mark.parametrize(("before", "after"), [(1.0, 0.0), (0.0, 1.0), (0.6, 1.0)])
def test_a_trial_goes_on_with_as_many_recorded_outputs_as_it_began_with(runner_of, monkeypatch, before, after):  # noqa: F811
    """Bit for bit, on a machine with room for more of them, or for none."""
    own = runner_of("room")
    whole = own.recorded["bytes"]
    own.close()

    def there_is_room_for(share):
        monkeypatch.setattr(recording, "_kept", OrderedDict())
        monkeypatch.setattr(recording, "_has_room", lambda size, entry, root: size <= share * whole)

    def run_undisturbed(share):
        shutil.rmtree(layout.trial_states(runner_of.store, "00000-s0"), ignore_errors=True)
        there_is_room_for(share)
        runner = runner_of("undisturbed", eval_every_epochs=1)
        found, recorded = scores_to_the_end(runner), runner.recorded["examples"]
        runner.close()
        shutil.rmtree(layout.trial_states(runner_of.store, "00000-s0"))
        return found, recorded

    other, _ = run_undisturbed(after)
    expected, recorded = run_undisturbed(before)
    assert other != expected  # in last bits, or nothing is shown below
    first = runner_of("one", eval_every_epochs=1)
    first.advance()
    first.advance()
    first.close()
    there_is_room_for(after)
    second = runner_of("two", eval_every_epochs=1)
    assert second.recorded["examples"] == recorded
    assert second.standing.step > 0
    second.advance()
    assert scores_to_the_end(second) == expected[1:]
    second.close()
