"""One trial on one rank, an evaluation's worth of steps at a time, safe to kill at any moment.

After each evaluation the worker writes, in this order: the student, if it is the best feasible one; the
Parquet part of the steps since the last evaluation; the state to continue from. A trial that is killed in
between does the same steps again and overwrites the same files.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from torch import nn

from spd_ray.base.cache import content_key
from spd_ray.base.files import remove_unfinished, whole_folder
from spd_ray.config.trial import ModelConfig, TaskConfig, TeacherConfig, TrialConfig
from spd_ray.model.surgery import encoder_layers, remaining_parameters
from spd_ray.records import layout
from spd_ray.records.parquet import write_parquet
from spd_ray.records.schema import STEP_SCHEMA, StepRecord
from spd_ray.records.steps import compact_steps
from spd_ray.records.storage import SweepStorage
from spd_ray.training import engine, engine_state
from spd_ray.training.checkpoint import export_student
from spd_ray.training.teacher import Teacher, load_teacher
from spd_ray.training.trainer import prepare, train_spd
from spd_ray.trials.standing import Evaluation, Standing, judge

STANDING = "standing.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrialOrder:
    """What the driver asks a worker to run."""

    trial_id: str
    config: TrialConfig
    place: str  # the sweep's folder or URI
    command: str
    state_every_evaluations: int


def order_of(order: dict[str, Any]) -> TrialOrder:
    """The order as Tune's configuration carries it."""
    return TrialOrder(
        trial_id=order["trial_id"],
        config=TrialConfig.model_validate(order["config"]),
        place=order["place"],
        command=order["command"],
        state_every_evaluations=order["state_every_evaluations"],
    )


@lru_cache(maxsize=2)
def worker_teacher(task: TaskConfig, model: ModelConfig, teacher: TeacherConfig) -> Teacher:
    """The teacher with its tokenised data, kept by the worker from trial to trial."""
    return load_teacher(task, model, teacher)


class TrialRunner:
    """A trial under way. `advance` until `done`; a new runner continues from the newest saved state."""

    def __init__(self, order: TrialOrder) -> None:
        self.order = order
        config = order.config
        self.run = prepare(config, worker_teacher(config.task, config.model, config.teacher))
        self._config_key = content_key(config.model_dump(mode="json"))
        self.storage = SweepStorage(order.place, f"{order.trial_id}-rank-{engine.rank()}")
        self.storage.clear_copy()
        self._steps_folder = layout.steps(self.storage.folder, order.trial_id)
        self.storage.fetch(layout.trial_states(self.storage.folder, order.trial_id))
        if engine.rank() == 0:
            remove_unfinished(layout.checkpoints(self.storage.folder), order.trial_id)
            remove_unfinished(layout.trial_states(self.storage.folder, order.trial_id))
            remove_unfinished(self._steps_folder)
            self.storage.fetch(self._steps_folder)
        self.standing = Standing()
        self._to_tell_again = self._continue_from_state()
        self._records = train_spd(self.run)
        self.facts = self._facts()

    @property
    def done(self) -> bool:
        return self.standing.step == self.run.timeline.t3

    def _facts(self) -> dict[str, int | float]:
        """What the trial's record says of it from the start."""
        run, timeline = self.run, self.run.timeline
        encoder = encoder_layers(run.teacher.model)
        return {
            "layers": len(encoder),
            "student_layers": len(run.layers),
            "prunable_parameters": sum(m.weight.numel() for m in encoder.modules() if isinstance(m, nn.Linear)),
            "encoder_parameters": sum(p.numel() for p in encoder.parameters()),
            "parameters": sum(p.numel() for p in run.teacher.model.parameters()),
            "t1": timeline.t1,
            "t2": timeline.t2,
            "t3": timeline.t3,
            "pruning_end_step": timeline.pruning_end_step,
            "teacher_score": run.teacher.score,
            "majority_score": run.teacher.majority_score,
        }

    def advance(self) -> Standing:
        """Train to the next evaluation, put what happened on disk and return where the trial stands.

        Every rank calls it and gets the same; rank 0 writes. After a restart the standing that was saved is told
        again first: a kill may have come between its state and the driver's hearing of it.
        """
        if self.done or self._to_tell_again:
            self._to_tell_again = False
            return self.standing
        order, before, started = self.order, self.standing, time.perf_counter()
        chunk = self._next_chunk()
        standing = self._judged(chunk)
        level = self.run.timeline.level(standing.step)
        at_level = level is not None and standing.levels[f"{level:g}"]["step"] == standing.step
        if standing.best_step == standing.step or at_level:
            with engine_state.whole_parameters(self.run.engine):
                if engine.rank() == 0:
                    folder = layout.checkpoint(self.storage.folder, order.trial_id, level)
                    export_student(self.run, folder, order.command)
                    self.storage.send(folder)
        if engine.rank() == 0:
            part = layout.step_part(self.storage.folder, order.trial_id, before.step, standing.step)
            write_parquet(chunk, STEP_SCHEMA, part)
            self.storage.send(part)
        self.standing = replace(standing, wall_seconds=before.wall_seconds + time.perf_counter() - started)
        if standing.evaluations % self.order.state_every_evaluations == 0 or self.done:
            self._save_state()
        if self.done and engine.rank() == 0:
            compact_steps(self.storage.folder, order.trial_id)
            self.storage.send(self._steps_folder)
        return self.standing

    def close(self) -> None:
        """Free the engine's memory; the worker lives on for its next trial."""
        engine.release(self.run.engine)
        self.storage.clear_copy()

    def _next_chunk(self) -> list[StepRecord]:
        chunk = []
        for record in self._records:
            chunk.append(record)
            if record.split == self.run.teacher.data.selection and record.metric != "loss":
                return chunk
        raise AssertionError("a trial ends with an evaluation")

    def _judged(self, chunk: list[StepRecord]) -> Standing:
        scored = chunk[-1]
        train_score = next(r.value for r in chunk if r.split == "train" and r.metric == scored.metric)
        evaluation = Evaluation(scored.step, scored.stage, scored.value, train_score, scored.sparsity)
        trained = engine.world_size() * sum(r.seconds for r in chunk if r.split == "batch")
        standing = judge(self.standing, self.run.timeline, evaluation)
        standing = replace(standing, device_seconds=self.standing.device_seconds + trained)
        if standing.best_step != standing.step:
            return standing
        with engine_state.whole_parameters(self.run.engine):
            of_encoder, of_model = remaining_parameters(self.run.model)
        return replace(standing, remaining_encoder_parameters=of_encoder, remaining_parameters=of_model)

    def _save_state(self) -> None:
        """All ranks gather the state; rank 0 writes it into a folder that appears whole, and removes the older one."""
        if engine.rank() > 0:
            engine_state.save_state(self.run.engine, None)
            return
        older = layout.states_by_age(self.storage.folder, self.order.trial_id)
        newest = layout.state(self.storage.folder, self.order.trial_id, self.standing.step)
        with whole_folder(newest) as building:
            (building / STANDING).write_text(json.dumps({"config": self._config_key, **asdict(self.standing)}))
            engine_state.save_state(self.run.engine, building)
        self.storage.send(newest)
        for state in older:
            self.storage.drop(state)

    def _continue_from_state(self) -> bool:
        """Whether there was a state to continue from.

        One that is not as it was written, or of what this trial was in a sweep that forgot it before its store knew of
        it, is left aside: the trial begins anew.
        """
        for state in reversed(layout.states_by_age(self.storage.folder, self.order.trial_id)):
            try:
                standing = json.loads((state / STANDING).read_text())
                if standing.pop("config") != self._config_key:
                    raise ValueError(f"{state} is of another configuration")
                engine_state.load_state(self.run.engine, state)
            except (OSError, ValueError) as error:
                _log.warning("%s begins anew: %s", self.order.trial_id, error)
                continue
            self.standing = Standing(**standing)
            return True
        if engine.rank() == 0:
            self.storage.drop(self._steps_folder)
        return False
