"""What a person sees while a sweep runs and when it ends: a live table on a terminal, lines elsewhere."""

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spd_ray.ledger import Ledger
from spd_ray.records import TrialRecord

SECONDS_BETWEEN_LINES = 10.0
ROMAN = {1: "I", 2: "II", 3: "III"}


class SweepDisplay:
    """The live table of running and ended trials; `update` redraws it, or prints a line now and then."""

    def __init__(self, ledger: Ledger, console: Console) -> None:
        self.ledger = ledger
        self.console = console
        self.standings: dict[str, dict[str, Any]] = {}  # the newest result of every trial of this session
        self.started = time.monotonic()
        self._work_before = self._work_done()
        self._last_line = 0.0
        self._live = Live(console=console, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> "SweepDisplay":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.update(self.table(), refresh=True)
            self._live.stop()

    def update(self, ended: TrialRecord | None = None) -> None:
        """Show the state of things; `ended` is a trial that has just ended."""
        if self._live:
            self._live.update(self.table())
            return
        if ended is not None:
            self.console.print(_ended_line(ended), self._summary_line(), soft_wrap=True, markup=False)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            running = [_running_text(t, self.standings.get(t.trial_id)) for t in self._with_status("running")]
            if running:
                self.console.print("; ".join(running), "|", self._summary_line(), soft_wrap=True)

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
        ended = sorted(self.ledger.ended, key=lambda t: -(t.best_score if t.best_score is not None else -9.0))
        room = max(5, self.console.height - 8 - len(self._with_status("running")))
        for trial in [*self._with_status("running"), *ended[:room]]:
            table.add_row(*_row(trial, self.standings.get(trial.trial_id)))
        return Group(table, Text(self._summary_line(), style="bold"))

    def _with_status(self, status: str) -> list[TrialRecord]:
        return [trial for trial in self.ledger.trials.values() if trial.status == status]

    def _work_done(self) -> float:
        """In trials; a running one counts by its budget."""
        ended = {trial.trial_id for trial in self.ledger.ended}
        return len(ended) + sum(s["budget"] for trial_id, s in self.standings.items() if trial_id not in ended)

    def _summary_line(self) -> str:
        total, done = self.ledger.total, self._work_done()
        best = self.ledger.best()
        best_text = f"best {best.metric} {_score(best.best_score)} ({best.trial_id})" if best else "no best yet"
        progress = done - self._work_before
        left = (total - done) * (time.monotonic() - self.started) / progress if progress > 0 else None
        left_text = f"about {_duration(left)} left" if left is not None else "time left not known yet"
        return f"{len(self.ledger.ended)}/{total} trials, {best_text}, {left_text}"


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


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
