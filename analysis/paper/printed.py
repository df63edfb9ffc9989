"""The paper's printed values (Huang et al., ACL 2022, arXiv:2110.08190), and how it counts parameters.

Scores are as printed in Tables 1 and 2, in percent. A dash in the paper is None here.
"""

from typing import NamedTuple

from analysis.reading.tasks import glue_task

TASKS = ("qnli", "sst2", "cola", "stsb", "mrpc", "rte")  # Table 1's columns, in its order


class PrintedRow(NamedTuple):
    """A printed row: the method, what remains, and scores in the order of `TASKS` (percent)."""

    method: str
    remains: str
    scores: tuple[float | None, ...]
    average: float | None = None  # as printed, in Table 1 alone; BERT6-PKD's scores have the mean 77.2


_BERT = "BERT-base (teacher)"
TABLE_1 = (
    PrintedRow(_BERT, "109M", (91.6, 92.9, 57.9, 89.1, 90.2, 72.2), 82.3),
    PrintedRow("BERT6-PKD", "67M", (88.4, 91.0, 45.5, 86.2, 85.7, 66.5), 76.1),
    PrintedRow("DistilBERT", "67M", (89.2, 92.7, 51.3, 86.9, 87.5, 59.9), 77.9),
    PrintedRow("MiniLM6", "67M", (91.0, 92.0, 49.2, None, 88.4, 71.5)),
    PrintedRow("TinyBERT6", "67M", (91.1, 93.0, 54.0, 90.1, 90.6, 73.4), 82.0),
    PrintedRow("Theseus", "67M", (89.5, 91.5, 51.1, 88.7, 89.0, 68.2), 79.7),
    PrintedRow("BERT-tickets", "67M", (None, None, 53.8, 88.2, 84.9, 66.0)),
    PrintedRow("SPD", "67M", (92.0, 93.0, 61.4, 90.1, 90.7, 72.2), 83.2),
)
TABLE_2 = (
    PrintedRow(_BERT, "100%", (None, None, 57.9, 89.1, 90.2, 72.2)),
    PrintedRow("TinyBERT4", "18%", (None, None, 29.8, None, 82.4, None)),
    PrintedRow("RPP", "11.6%", (None, None, None, None, 81.9, 67.5)),
    PrintedRow("SparseBERT", "5%", (None, None, 18.1, 32.2, 81.5, 47.3)),
    PrintedRow("SPD", "10%", (None, None, 48.7, 87.8, 89.9, 69.0)),
    PrintedRow("SPD", "5%", (None, None, 42.1, 85.2, 88.7, 56.7)),
)
TABLES = {"table1": TABLE_1, "table2": TABLE_2}
_SPD = {0.5: TABLE_1[-1], 0.9: TABLE_2[-2], 0.95: TABLE_2[-1]}  # sparsity -> SPD's row
_REMOVES_LAYERS = None  # its one size is its own, whatever is asked of the methods that prune
_BASELINES = {  # our other methods -> the row of the same method, and the sparsity at which it is printed
    "pkd": (TABLE_1[1], _REMOVES_LAYERS),
    "distilbert": (TABLE_1[2], _REMOVES_LAYERS),
    "minilm": (TABLE_1[3], _REMOVES_LAYERS),
    "tinybert6": (TABLE_1[4], _REMOVES_LAYERS),
    "theseus": (TABLE_1[5], _REMOVES_LAYERS),
    "tickets": (TABLE_1[6], 0.5),
    "tinybert4": (TABLE_2[1], _REMOVES_LAYERS),
    "rpp": (TABLE_2[2], 0.884),
    "sparsebert": (TABLE_2[3], 0.95),
}
_TABLE_1_METHODS = ("pkd", "distilbert", "minilm", "tinybert6", "theseus", "tickets")


def printed_score(method: str, task: str, sparsity: float) -> float | None:
    """The score printed in Table 1 or 2 for our `method`, as a fraction; None where the paper prints none.

    A synthetic task has the score of the GLUE task that it imitates. A method that prunes has a score only at a
    `sparsity` at which it was printed; one that removes layers has the one of its size.

    >>> printed_score("spd", "rte", 0.95), printed_score("spd", "mini_entailment", 0.5)
    (0.567, 0.722)
    >>> printed_score("sparsebert", "rte", 0.95), printed_score("sparsebert", "rte", 0.9)
    (0.473, None)
    """
    if method == "spd":
        return _cell(_SPD.get(round(sparsity, 6)), task)
    row, printed_at = _BASELINES.get(method, (None, None))
    if printed_at is not None and abs(sparsity - printed_at) > 5e-4:
        return None
    return _cell(row, task)


def exceeded_in_table_1(task: str) -> tuple[str, ...]:
    """Our names of the methods that SPD equals or exceeds in Table 1 on `task` ("exceeds" in the paper's text).

    >>> exceeded_in_table_1("rte"), "tinybert6" in exceeded_in_table_1("cola")
    (('pkd', 'distilbert', 'minilm', 'theseus', 'tickets'), True)
    """
    ours = printed_score("spd", task, 0.5)
    printed = {method: printed_score(method, task, 0.5) for method in _TABLE_1_METHODS}
    return tuple(
        method for method, score in printed.items() if score is not None and ours is not None and score <= ours
    )


def printed_teacher_score(task: str) -> float | None:
    """The score printed for BERT-base, as a fraction."""
    return _cell(TABLE_1[0], task)


def _cell(row: PrintedRow | None, task: str) -> float | None:
    name = glue_task(task)
    if row is None or name not in TASKS:
        return None
    score = row.scores[TASKS.index(name)]
    return None if score is None else round(score / 100, 4)


class Counts(NamedTuple):
    """Numbers of parameters of a BERT without its task's classifier."""

    embeddings: int
    encoder: int  # biases and LayerNorm counted
    prunable: int  # the six weight matrices of each encoder layer
    pooler: int

    @property
    def total(self) -> int:
        """All of them, which the paper calls 109M for BERT-base."""
        return self.embeddings + self.encoder + self.pooler

    def remaining(self, sparsity: float) -> int:
        """How many are left when that fraction of the prunable ones is zero: the paper's #Param, embeddings counted.

        >>> round(bert_counts().remaining(0.5) / 1e6)
        67
        """
        return self.total - round(sparsity * self.prunable)


def bert_counts(layers: int = 12, hidden: int = 768, intermediate: int = 3_072, vocabulary: int = 30_522,
                positions: int = 512, segments: int = 2) -> Counts:  # fmt: skip
    """The counts from the shapes; the defaults are BERT-base uncased."""
    attention = 4 * hidden * hidden  # query, key, value, output
    feed_forward = 2 * hidden * intermediate
    biases = 4 * hidden + intermediate + hidden
    norms = 2 * 2 * hidden
    return Counts(
        embeddings=(vocabulary + positions + segments) * hidden + 2 * hidden,
        encoder=layers * (attention + feed_forward + biases + norms),
        prunable=layers * (attention + feed_forward),
        pooler=hidden * hidden + hidden,
    )
