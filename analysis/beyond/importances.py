"""How much of the score's variance each searched dimension explains: fANOVA on a study rebuilt from Parquet.

fANOVA: Hutter, Hoos, Leyton-Brown, An Efficient Approach for Assessing Hyperparameter Importance, ICML 2014.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import ADAPTIVE, describe_origin
from analysis.errors import NoData
from analysis.numbers.figure_data import Origin, take_whole
from analysis.numbers.search_space import Space, is_number, value_of, widest_space
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import short_key
from analysis.wording.formatting import pluralize

NAME = "importances"
TITLE = "Importance of each dimension (fANOVA)"
FEWEST = 6  # configurations
ENOUGH = 10  # configurations a dimension, below which the picture itself warns
MOST = 500  # configurations given to the forest, evenly spaced: it takes seconds, and more change little


class Importances(NamedTuple):
    """Shares of variance, D dimensions by descending share; they sum to 1."""

    data: Origin
    dimension: tuple[str, ...]  # (D,)
    share: np.ndarray  # (D,)
    configurations: int
    used: int

    @property
    def few(self) -> bool:
        """Whether there are too few configurations for shares that another run of the sweep would give again."""
        return self.configurations < ENOUGH * len(self.dimension)


def compute(sweeps: Sequence[Sweep]) -> Importances:
    """fANOVA of the sweep with the most dimensions. Raises NoData where there is none, or no Optuna."""
    space = _within_sparsity(widest_space(sweeps, FEWEST))
    if np.ptp(space.score) == 0:
        raise NoData(f"all configurations of sweep {space.sweep.name} have the same score")
    shares, used = _fanova(space)
    trials = tuple(trial for seeds in space.configurations for trial in seeds)
    return Importances(
        take_whole(space.sweep, {None: trials}).origin(NAME),
        tuple(map(short_key, shares)),
        np.array(list(shares.values())),
        len(space.score),
        used,
    )


def _within_sparsity(space: Space) -> Space:
    """The space without the target sparsity, each score less the mean at its sparsity: denser students score higher."""
    sparsity = np.array([trials[0].target_sparsity for trials in space.configurations])
    mean = {one: space.score[sparsity == one].mean() for one in set(sparsity)}
    keys = tuple(key for key in space.keys if short_key(key) != "target_sparsity")
    return space._replace(keys=keys, score=space.score - np.array([mean[one] for one in sparsity]))


def _fanova(space: Space) -> tuple[dict[str, float], int]:
    """Full key -> share, by descending share; how many configurations the forest saw."""
    try:
        import optuna
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        evaluator = FanovaImportanceEvaluator(seed=0)
    except ImportError as error:
        raise NoData(f"importances need optuna and scikit-learn, which are not installed ({error})") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kept = np.unique(np.linspace(0, len(space.score) - 1, min(MOST, len(space.score))).round().astype(int))
    params = [{key: value_of(space.configurations[index][0], key) for key in space.keys} for index in kept]
    distributions = {key: _distribution([row[key] for row in params], optuna.distributions) for key in space.keys}
    study = optuna.create_study(direction="maximize")
    study.add_trials([
        optuna.create_trial(params=row, distributions=distributions, value=float(space.score[index]))
        for row, index in zip(params, kept, strict=True)
    ])  # fmt: skip
    return dict(get_param_importances(study, evaluator=evaluator)), len(kept)


def _distribution(values: list[Any], distributions: Any) -> Any:
    """A range for numbers, a choice for anything else."""
    if all(map(is_number, values)):
        return distributions.FloatDistribution(min(values), max(values))
    return distributions.CategoricalDistribution(sorted(set(values), key=str))


def draw(numbers: Importances, axes: Axes) -> None:
    """One bar per dimension, the most important on top."""
    places = np.arange(len(numbers.dimension))
    axes.barh(places, numbers.share, color=style.DEV, alpha=0.75, height=0.6)
    for place, share in zip(places, numbers.share, strict=True):
        axes.annotate(f"{share:.2f}", (share, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(places, [name.replace("_", " ") for name in numbers.dimension])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * float(numbers.share.max()))
    axes.set_xlabel("Share of the variance of the mean best score (sums to 1)")
    if numbers.few:
        axes.set_title(f"only {_count(numbers)}: rough", color=style.STAGE1_END)


def caption(numbers: Importances) -> str:
    """What the bars are, and how far they can be trusted."""
    sampled = f", {numbers.used} of them evenly spaced" if numbers.used < numbers.configurations else ""
    biased = (
        f" The sampler ({numbers.data.sampler}) favoured regions that scored well, so the shares describe these more "
        "than the whole space."
        if numbers.data.sampler in ADAPTIVE else ""
    )  # fmt: skip
    few = (
        f"Warning: {_count(numbers)} are few, and another run of the sweep may give other shares."
        if numbers.few else ""
    )  # fmt: skip
    return (
        f"{few} Optuna's fANOVA on a study rebuilt from {pluralize(numbers.configurations, 'configuration')}{sampled}, "
        f"each with the mean over its seeds{_less_sparsity(numbers)}.{biased} "
        f"{describe_origin(numbers.data)} Beyond the paper."
    ).strip()


def _count(numbers: Importances) -> str:
    dimensions = pluralize(len(numbers.dimension), "dimension")
    return f"{pluralize(numbers.configurations, 'configuration')} for {dimensions}"


def _less_sparsity(numbers: Importances) -> str:
    several = len(numbers.data.setting.sparsities) > 1
    return ", less the mean at its target sparsity" if several else ""


def figure(numbers: Importances) -> Figure:
    """The picture."""
    height = 1.0 + 0.32 * len(numbers.dimension)
    return style.compose(numbers.data.setting, height, lambda axes: draw(numbers, *axes))
