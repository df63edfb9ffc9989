"""The sweep's own run in MLflow, the parent of its trials': what is best so far, and where it all came from.

Why so: docs/decisions.md #one-name-a-number-in-mlflow.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from spd_ray.base.pace import Pace
from spd_ray.config.sweep import SweepSpec
from spd_ray.records.schema import TrialRecord
from spd_ray.study.ledger import Ledger
from spd_ray.study.sparsity import bounds_of, has_levels
from spd_ray.tracking.tracker import Tracker, UntimedPoint
from spd_ray.tracking.trial_runs import TEACHER, best_name
from spd_ray.tracking.view import View, view_of
from spd_ray.training.teacher import Teacher

NOTE = "mlflow.note.content"  # what MLflow shows as a run's description
NOTE_LENGTH = 7_500  # MLflow takes tags of 8,000 characters
ROWS = 20  # of the table of trials, at most
_SHARE, _SECONDS = 0.02, 10.0  # of the time, at most, to write the description; between two times, at least


class SweepPage:
    """Keeps the parent run up to date as trials end; `provenance` is what sweep.yaml says beside the specification."""

    def __init__(
        self, spec: SweepSpec, ledger: Ledger, tracker: Tracker, teacher: Teacher, provenance: Mapping[str, Any]
    ) -> None:
        self.spec = spec
        self.ledger = ledger
        self.tracker = tracker
        self.teacher = teacher
        self.provenance = provenance
        self.models: dict[float, str] = {}  # level -> models:/NAME@ALIAS, once they are registered
        self.pace = Pace(_SHARE, _SECONDS)
        self._counts = Counter(trial.status for trial in ledger.ended)

    def begin(self) -> None:
        """Say where the sweep comes from, and what the teacher scores."""
        machine = json.dumps(self.provenance["machine"])
        tags = {"command": self.provenance["command"], "machine": machine, "mlflow.source.type": "LOCAL"}
        tags["mlflow.source.name"] = "spd_ray.sweep"
        tags[TEACHER] = self.teacher.files_key
        if self.provenance["git_commit"]:
            tags["mlflow.source.git.commit"] = self.provenance["git_commit"]
        selection, teacher = self.teacher.data.selection, self.teacher
        scores = {
            f"teacher_{selection}_score": teacher.score,
            "teacher_train_score": teacher.train_score,
            f"majority_{selection}_score": teacher.majority_score,
        }
        run = self.tracker.store.parent_run_id
        self.tracker.log_points(run, [(name, value, 0, None) for name, value in scores.items()])
        self.tracker.set_tags(run, {**tags, NOTE: self.note()})

    def trial_ended(self, trial: TrialRecord) -> None:
        """Log what is best so far, over the number of trials that have ended; the description now and then."""
        self._counts[trial.status] += 1
        run, ended = self.tracker.store.parent_run_id, self.ledger.ended_count
        counts = {f"trials_{status}": float(count) for status, count in self._counts.items()}
        points: list[UntimedPoint] = [(name, value, ended, None) for name, value in counts.items()]
        for best in self.ledger.best_of_levels(1):
            suffix = f"_at_{self.ledger.level(best.trial_id):g}" if has_levels(self.spec) else ""
            points.append((f"{best_name(best)}{suffix}", best.best_score or 0.0, ended, None))
        self.tracker.note_points(run, points)
        if self.pace.due:
            with self.pace.measured():
                self.tracker.set_tags(run, {NOTE: self.note()})

    def finish(self, models: Mapping[float, str]) -> None:
        """Name the registered `models`, level -> models:/NAME@ALIAS; where there are several, a list of trials each."""
        self.models = dict(models)
        if len(self.ledger.levels) > 1:
            views = [self._view(level) for level in self.ledger.levels]
            for view in reversed(views):
                self.tracker.save_view(view)
        self.tracker.set_tags(self.tracker.store.parent_run_id, {NOTE: self.note()})

    def note(self) -> str:
        """The description in Markdown: the best of each sparsity, the teacher, the trials, and the command."""
        text, rows = _spaced(self._head()), list(map(_spaced, self._rows()))
        while len(text) + sum(map(len, rows)) > NOTE_LENGTH and len(rows) > 2:
            rows.pop()
        return text + "".join(rows) + self._foot()

    def _head(self) -> str:
        task, teacher = self.teacher.data.task, self.teacher
        metric = f"{self.teacher.data.selection} {task.metric}"
        lines = [
            f"**Sweep {self.spec.name}** on {task.name}, {self.ledger.ended_count} of {self.ledger.total} trials\n"
        ]
        lines += [f"| model | {metric} | train | target sparsity | take it |", "|---|---|---|---|---|"]
        for best in self.ledger.best_of_levels(1):
            level = self.ledger.level(best.trial_id)
            taken = f"`{self.models[level]}`" if level in self.models else ""
            numbers = f"{best.best_score:.4f} | {best.train_score or 0.0:.4f} | {best.target_sparsity:g}"
            lines.append(f"| **best: {self._link(best)}** | {numbers} | {taken} |")
        lines.append(f"| dense teacher | {teacher.score:.4f} | {teacher.train_score:.4f} | 0 | |")
        lines.append(f"| {task.baseline} | {teacher.majority_score:.4f} | | | |\n")
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self._counts.items()))
        experiment = self.tracker.store.experiment.experiment_id
        pages = {"all feasible trials, best first": self.tracker.store.sweep_view.page(experiment)}
        if len(self.ledger.levels) > 1:
            pages |= {f"those at {level:g}": self._view(level).page(experiment) for level in self.ledger.levels[:12]}
        links = ", ".join(f"[{text}]({page})" for text, page in pages.items())
        return "\n".join([*lines, f"Trials: {counts or 'none has ended yet'}. See {links}.\n\n"])

    def _rows(self) -> list[str]:
        searched = list(self.spec.dimensions())
        rows = [
            f"| trial | score | sparsity | status | {' | '.join(searched)} |\n",
            "|---" * (4 + len(searched)) + "|\n",
        ]
        for trial in self.ledger.ended_best_first(ROWS):
            method = self.ledger.config(trial.trial_id).method.model_dump()
            values = [_value(method, name) for name in searched]
            score = "" if trial.best_score is None else f"{trial.best_score:.4f}"
            cells = [self._link(trial), score, f"{trial.target_sparsity:g}", trial.status, *values]
            rows.append(f"| {' | '.join(cells)} |\n")
        return rows

    def _foot(self) -> str:
        commit = f" at commit `{self.provenance['git_commit']}`" if self.provenance["git_commit"] else ""
        return f"\nMade{commit} by\n\n    {self.provenance['command'][:300]}\n"

    def _link(self, trial: TrialRecord) -> str:
        run = self.tracker.run_id_of(trial.mlflow_run_id or "")
        page = f"#/experiments/{self.tracker.store.experiment.experiment_id}/runs/{run}?workflowType=machine_learning"
        return f"[{trial.trial_id}]({page})" if run else trial.trial_id

    def _view(self, level: float) -> View:
        store = self.tracker.store
        return view_of(self.spec, store.sweep_id, store.parent_run_id, bounds_of(level, self.spec))


def _spaced(text: str) -> str:
    """The cells of the tables in a Markdown text apart: MLflow's page leaves nothing between them."""
    return text.replace(" | ", "&nbsp;&nbsp; | ")


def _value(method: Mapping[str, Any], name: str) -> str:
    """The value of the dimension `name` in a trial's method."""
    section, _, leaf = name.rpartition(".")
    value = (method[section] if section else method)["name" if name == "method" else leaf]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
