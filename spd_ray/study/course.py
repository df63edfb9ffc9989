"""How a configuration's score went, for whoever opens the journal in optuna-dashboard: nothing here is drawn from.

Why so: docs/decisions.md #the-journal-is-for-people-too.
"""

from collections.abc import Mapping, Sequence
from statistics import mean

import optuna

from spd_ray.config.dimensions import tidy

POINTS = 12  # of a configuration at most: each is a line of the journal, which is read whole


def report_course(study: optuna.Study, number: int, seeds: Sequence[Mapping[int, float]]) -> None:
    """Report step -> score, the mean over the seeds, at steps that all of them have reached, the last among them.

    Of a stopped configuration Optuna takes the last one as its value. Again, it changes nothing.
    """
    storage = study._storage
    trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    for step in thinned(sorted(set.intersection(*map(set, seeds))) if seeds else []):
        storage.set_trial_intermediate_value(trial_id, step, tidy(mean(scores[step] for scores in seeds)))


def thinned(steps: Sequence[int]) -> list[int]:
    """At most `POINTS` of the steps, evenly, the last among them.

    >>> thinned(range(1, 31))
    [2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30]
    """
    if len(steps) <= POINTS:
        return list(steps)
    return [steps[len(steps) * index // POINTS - 1] for index in range(1, POINTS + 1)]
