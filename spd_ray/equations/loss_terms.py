"""The loss terms by name: the one table from which the YAML's keys, the records' columns and the dispatch follow.

A new term is a function in `losses` and a row here; one of an installed package is a row there (`config.method.TERMS`
has both). This file imports no tensors: the command line reads it, too.

Why so: docs/decisions.md #one-table-of-loss-terms.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

Reads = Literal["labels", "logits", "embeddings", "hidden", "attention", "value", "mixed"]
CountedBy = Literal["examples", "tokens", "pairs"]
LAYER_OUTPUTS = ("hidden", "attention", "value")  # what a layer gives; a term that reads one is summed over layers


class LossTerm(NamedTuple):
    """One term of Eq. (2).

    `function` is the name of one of `losses`, or a function. `reads` says which outputs of student and teacher it
    compares (`labels`: the student's logits with the labels; `mixed`: the student with itself under mixup).
    `counted_by` says what the term is a mean of, so that ranks can share a batch; a function whose mean is over tokens
    or pairs of tokens takes the token mask, too.
    """

    function: str | Callable[..., Any]
    reads: Reads
    counted_by: CountedBy
    weight: float  # the default
    description: str
    package: str | None = None  # that brings it; None: this one

    def wrong(self) -> str:
        """What an installed package has got wrong in this row of its own; "" if nothing."""
        reads = [name for name in get_args(Reads) if name != "mixed"]
        if not callable(self.function):
            return f"has the function {self.function!r}, where a function is needed"
        if self.reads not in reads:
            return f"reads {self.reads!r}; it must be one of {', '.join(reads)}"
        if self.counted_by not in get_args(CountedBy):
            return f"is counted by {self.counted_by!r}; it must be one of {', '.join(get_args(CountedBy))}"
        return "must have the weight 0.0, for a space asks for it" if self.weight else ""

    @property
    def of_layers(self) -> bool:
        """Whether the term is summed over the compared layers."""
        return self.reads in LAYER_OUTPUTS

    @property
    def distils(self) -> bool:
        """Whether the term needs the teacher."""
        return self.reads not in ("labels", "mixed")


# The order is that in which a step adds the terms up: the last bits of the sum depend on it.
LOSS_TERMS: dict[str, LossTerm] = {
    "task": LossTerm("task_loss", "labels", "examples", 0.0, "cross-entropy, or MSE, with the labels"),
    "prediction": LossTerm("prediction_loss", "logits", "examples", 1.0, "soft cross-entropy of the logits"),
    "embedding": LossTerm("hidden_loss", "embeddings", "tokens", 0.0, "MSE of what the first layer reads (TinyBERT)"),
    "hidden": LossTerm("hidden_loss", "hidden", "tokens", 1.0, "MSE of hidden states"),
    "attention": LossTerm("attention_loss", "attention", "pairs", 1.0, "MSE of attention maps"),
    "first_token": LossTerm(
        "first_token_loss", "hidden", "examples", 0.0, "MSE of normalised first-token states (PKD)"
    ),
    "cosine": LossTerm("cosine_loss", "hidden", "tokens", 0.0, "1 - cosine of hidden states (DistilBERT)"),
    "attention_relation": LossTerm(
        "relation_loss", "attention", "tokens", 0.0, "KL of attention distributions (MiniLM)"
    ),
    "value_relation": LossTerm("value_relation_loss", "value", "tokens", 0.0, "KL of value relations (MiniLM)"),
    "consistency": LossTerm("consistency_loss", "mixed", "tokens", 0.0, "under mixup; rises over its phase (CR-ILD)"),
}


def column(name: str) -> str:
    """The column of the step records that holds the term `name`, unweighted."""
    return f"loss_{name}"
