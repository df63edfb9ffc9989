"""One trial on one rank, an evaluation's worth of steps at a time, safe to kill at any moment.

After each evaluation the worker writes, in this order: the student, if it is the best feasible one; the
Parquet part of the steps since the last evaluation; now and then, behind the next steps' back, the state to continue
from. A trial that is killed in between does the same steps again and overwrites the same files.

Why so: docs/decisions.md #our-own-resume.
"""

import time
from dataclasses import replace
from typing import Any

from torch import nn

from spd_ray.base.cache import content_key
from spd_ray.base.files import remove_unfinished
from spd_ray.config.timeline import Timeline
from spd_ray.engine import engine, engine_state
from spd_ray.model.surgery import encoder_layers, remaining_parameters
from spd_ray.records import layout
from spd_ray.records.parquet import write_parquet
from spd_ray.records.schema import STEP_SCHEMA, StepRecord
from spd_ray.records.steps import compact_steps
from spd_ray.records.storage import SweepStorage
from spd_ray.training.checkpoint import export_student
from spd_ray.training.recording import Allowance
from spd_ray.training.teacher_outputs import recorded_part
from spd_ray.training.trainer import prepare, train_spd
from spd_ray.trials.request import TrialRequest
from spd_ray.trials.shared_teacher import worker_teacher
from spd_ray.trials.signs import RecordingTeller, SignTeller
from spd_ray.trials.standing import COURSE_COLUMNS, Evaluation, Standing, TrialFacts, course_of, judge
from spd_ray.trials.states import TrialStates


class TrialRunner:
    """A trial under way. `advance` until `done`; a new runner continues from the newest saved state."""

    def __init__(self, request: TrialRequest) -> None:
        self.request = request
        config = request.config
        engine.ensure_group()
        self.storage = SweepStorage(request.place, f"{request.trial_id}-rank-{engine.rank()}")
        self.storage.clear_copy()
        self._steps_folder = layout.steps(self.storage.folder, request.trial_id)
        self.storage.fetch(layout.trial_states(self.storage.folder, request.trial_id))
        if engine.rank() == 0:
            remove_unfinished(layout.checkpoints(self.storage.folder), request.trial_id)
            remove_unfinished(layout.trial_states(self.storage.folder, request.trial_id))
            remove_unfinished(self._steps_folder)
            self.storage.fetch(self._steps_folder)
        key = content_key({**config.identity(), "content": request.content})
        self.states = TrialStates(self.storage, request.trial_id, key, request.state_seconds)
        teacher = worker_teacher(request.place, config.task, request.content)
        Timeline.of(config.method, len(teacher.data.train)).check_ladder()
        tell = RecordingTeller(request.trial_id) if engine.rank() == 0 else None
        self.run = prepare(config, teacher, Allowance(self.states.recorded, request.gpus, shares=True, tell=tell))
        self.states.recorded = self.recorded["examples"]
        found = self.states.load(self.run.engine)
        self.standing, self._report_again = found or Standing(), found is not None
        if found is None and engine.rank() == 0:
            self.storage.drop(self._steps_folder)
        teller = SignTeller(request.trial_id, self.run.timeline.t3) if engine.rank() == 0 else None
        self._records = train_spd(self.run, teller)
        self.facts = self._collect_facts()

    @property
    def done(self) -> bool:
        return self.standing.step == self.run.timeline.t3

    @property
    def recorded(self) -> dict[str, Any]:
        """What is recorded of the teacher's outputs, and where: a state has the number of examples."""
        of, recorded = len(self.run.teacher.data.train), recorded_part(self.run.teacher_outputs)
        if recorded is None:
            return {"examples": 0, "of": of}
        return {"examples": recorded.count, "of": of, "bytes": recorded.nbytes, "place": recorded.place}

    def _collect_facts(self) -> TrialFacts:
        run, timeline = self.run, self.run.timeline
        encoder = encoder_layers(run.teacher.model)
        return TrialFacts(
            layers=len(encoder),
            student_layers=len(run.layers),
            prunable_parameters=sum(m.weight.numel() for m in encoder.modules() if isinstance(m, nn.Linear)),
            encoder_parameters=sum(p.numel() for p in encoder.parameters()),
            parameters=sum(p.numel() for p in run.teacher.model.parameters()),
            t1=timeline.t1,
            t2=timeline.t2,
            t3=timeline.t3,
            pruning_end_step=timeline.pruning_end_step,
            teacher_score=run.teacher.score,
            teacher_files=run.teacher.files_key,
            majority_score=run.teacher.majority_score,
        )

    def advance(self) -> Standing:
        """Train to the next evaluation, write what happened to disk and return where the trial stands.

        Every rank calls it and gets the same; rank 0 writes. After a restart the saved standing is reported once more:
        a kill may have come after its state was saved and before the driver received it.
        """
        if self.done or self._report_again:
            self._report_again = False
            return self.standing
        request, before, started = self.request, self.standing, time.perf_counter()
        self.states.save_if_due(self.run.engine, before)
        chunk = self._next_chunk()
        standing = self._judge(chunk)
        level = self.run.timeline.level(standing.step)
        at_level = level is not None and standing.levels[f"{level:g}"]["step"] == standing.step
        if standing.best_step == standing.step or at_level:
            with engine_state.whole_parameters(self.run.engine):
                if engine.rank() == 0:
                    folder = layout.checkpoint(self.storage.folder, request.trial_id, level)
                    export_student(self.run, folder)
                    self.storage.send(folder)
        if engine.rank() == 0:
            part = layout.step_part(self.storage.folder, request.trial_id, before.step, standing.step)
            write_parquet(chunk, STEP_SCHEMA, part)
            self.storage.send(part)
        self.standing = replace(standing, wall_seconds=before.wall_seconds + time.perf_counter() - started)
        if self.done and engine.rank() == 0:
            self.states.save_end(self.standing)
            compact_steps(self.storage.folder, request.trial_id)
            self.storage.send(self._steps_folder)
        return self.standing

    def close(self) -> None:
        """Give the trial's memory back, and take no step after it; the worker stays alive for its next trial."""
        self.states.close()
        engine.release(self.run.engine)
        del self.run, self._records  # the iterator holds the run, too
        engine.collect_memory()
        self.storage.clear_copy()

    def _next_chunk(self) -> list[StepRecord]:
        chunk, data = [], self.run.teacher.data
        for record in self._records:
            chunk.append(record)
            if (record.split, record.metric) == (data.selection, data.task.metric):
                return chunk
        raise AssertionError("a trial ends with an evaluation")

    def _judge(self, chunk: list[StepRecord]) -> Standing:
        scored = chunk[-1]
        train_score = next(r.value for r in chunk if r.split == "train" and r.metric == scored.metric)
        steps = [record for record in chunk if record.split == "batch"]
        course = course_of([{name: getattr(record, name) for name in COURSE_COLUMNS} for record in steps])
        names = self.run.teacher.data.task.also
        others = {r.metric: r.value for r in chunk if r.split == scored.split and r.metric in names}
        evaluation = Evaluation(scored.step, scored.stage, scored.value, train_score, scored.sparsity, course, others)
        trained = engine.world_size() * sum(record.seconds for record in steps)
        standing = judge(self.standing, self.run.timeline, evaluation)
        standing = replace(standing, device_seconds=self.standing.device_seconds + trained)
        if standing.best_step != standing.step:
            return standing
        with engine_state.whole_parameters(self.run.engine):
            of_encoder, of_model = remaining_parameters(self.run.model)
        return replace(standing, remaining_encoder_parameters=of_encoder, remaining_parameters=of_model)
