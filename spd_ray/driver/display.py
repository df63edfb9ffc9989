"""What a person sees while a sweep runs and when it ends: a live table on a terminal, lines elsewhere."""

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spd_ray.records.schema import TrialRecord
from spd_ray.study.ledger import Ledger

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_TABLES = 0.5
SHOWN = ("stage", "budget", "sparsity", "score", "best_score", "train_score_now", "wall_seconds")  # in a row
MOST_IN_A_LINE = 8
ROMAN = {1: "I", 2: "II", 3: "III"}


class SweepDisplay:
    """The live table of running and ended trials; `update` redraws it, or prints a line now and then."""

    def __init__(self, ledger: Ledger, console: Console) -> None:
        self.ledger = ledger
        self.console = console
        self.standings: dict[str, dict[str, Any]] = {}  # the newest result of every trial of this session
        self.started = time.monotonic()
        self._work_before = self._work_done()
        self._last_time = 0.0  # of a table or a line
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "SweepDisplay":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.update(self.table(), refresh=True)
            self._live.stop()

    def update(self) -> None:
        """Redraw the table, or print a line, if it is time again."""
        pause = SECONDS_BETWEEN_TABLES if self._live else SECONDS_BETWEEN_LINES
        if time.monotonic() - self._last_time < pause:
            return
        self._last_time = time.monotonic()
        if self._live:
            self._live.update(self.table(), refresh=True)
        elif self.ledger.running:
            trials = self._running()
            running = [_running_text(t, self.standings.get(t.trial_id)) for t in trials[:MOST_IN_A_LINE]]
            running += [f"{len(trials) - MOST_IN_A_LINE} more"] if len(trials) > MOST_IN_A_LINE else []
            self.console.print("; ".join(running), "|", self._summary_line(), soft_wrap=True)

    def end(self, trial_id: str) -> None:
        """Show that a trial has ended; what its row does not show is forgotten."""
        standing = self.standings.get(trial_id, {})
        self.standings[trial_id] = {name: standing[name] for name in SHOWN if name in standing}
        if self._live:
            self.update()
        else:
            line = _ended_line(self.ledger.trials[trial_id])
            self.console.print(line, self._summary_line(), soft_wrap=True, markup=False)

    def table(self) -> Group:
        """The ended trials, best first, and the running ones."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in (
            "trial",
            "method",
            "status",
            "stage",
            "budget",
            "sparsity",
            "now",
            "best",
            "train",
            "p0",
            "seconds",
        ):
            table.add_column(title, justify="left" if title in ("trial", "method", "status", "stage") else "right")
        running = self._running()[: max(5, self.console.height - 12)]
        room = max(5, self.console.height - 8 - len(running))
        for trial in [*running, *self.ledger.ended_best_first(room)]:
            table.add_row(*_row(trial, self.standings.get(trial.trial_id)))
        return Group(table, Text(self._summary_line(), style="bold"))

    def _running(self) -> list[TrialRecord]:
        return [self.ledger.trials[trial_id] for trial_id in self.ledger.running]

    def _work_done(self) -> float:
        """In trials; a running one counts by its budget."""
        budgets = (self.standings.get(trial_id, {}).get("budget", 0.0) for trial_id in self.ledger.running)
        return self.ledger.ended_count + sum(budgets)

    def _summary_line(self) -> str:
        total, done = self.ledger.total, self._work_done()
        best = self.ledger.best()
        at = f" at sparsity {self.ledger.level(best.trial_id):g}" if best and len(self.ledger.levels) > 1 else ""
        best_text = f"best {best.metric}{at} {_score(best.best_score)} ({best.trial_id})" if best else "no best yet"
        progress = done - self._work_before
        left = (total - done) * (time.monotonic() - self.started) / progress if progress > 0 else None
        left_text = f"about {format_duration(left)} left" if left is not None else "time left not known yet"
        return f"{self.ledger.ended_count}/{total} trials, {best_text}, {left_text}"


def _row(trial: TrialRecord, standing: dict[str, Any] | None) -> list[str]:
    now = standing or {}
    sparsity = now.get("sparsity", trial.achieved_sparsity)
    return [
        trial.trial_id,
        trial.method,
        trial.status,
        ROMAN.get(now.get("stage", 3 if trial.status == "finished" else 1), ""),
        f"{now.get('budget', 1.0 if trial.status == 'finished' else 0.0):.0%}",
        "" if sparsity is None else f"{sparsity:.3f}",
        _score(now.get("score", trial.final_score)),
        _score(now.get("best_score", trial.best_score)),
        _score(now.get("train_score_now", trial.train_score)),
        f"{trial.p0:g}",
        f"{now.get('wall_seconds', trial.wall_seconds or 0.0):.0f}",
    ]


def _running_text(trial: TrialRecord, standing: dict[str, Any] | None) -> str:
    if not standing:
        return f"{trial.trial_id} starting"
    stage = ROMAN[standing["stage"]]
    sparsity, score = standing["sparsity"], _score(standing["score"])
    name = f"{trial.trial_id} {trial.method}"
    return f"{name} stage {stage} {standing['budget']:.0%} sparsity {sparsity:.2f} {trial.selection} {score}"


def _ended_line(trial: TrialRecord) -> str:
    reason = f" ({trial.error})" if trial.error else ""
    scores = f"{trial.selection} {_score(trial.best_score)} train {_score(trial.train_score)} p0 {trial.p0:g}"
    return f"{trial.trial_id} {trial.method} {trial.status}{reason}: {scores} in {trial.wall_seconds or 0:.0f} s |"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def format_duration(seconds: float) -> str:
    """
    >>> [format_duration(seconds) for seconds in (7.2, 127, 7500)]
    ['7 s', '2 min 7 s', '2 h 5 min']
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, more = divmod(minutes, 60)
    if hours:
        return f"{hours} h {more} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
