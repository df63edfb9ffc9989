"""The synthetic tasks of the miniature, and the GLUE task that each of them imitates."""

IMITATES = {"mini_acceptability": "cola", "mini_similarity": "stsb", "mini_entailment": "rte"}  # synthetic -> GLUE


def is_synthetic(task: str) -> bool:
    """Whether the task is generated, so that its scores are not GLUE scores.

    >>> is_synthetic("mini_entailment"), is_synthetic("rte")
    (True, False)
    """
    return task in IMITATES


def glue_task(task: str) -> str:
    """The GLUE task that `task` is, or imitates.

    >>> glue_task("mini_entailment"), glue_task("rte")
    ('rte', 'rte')
    """
    return IMITATES.get(task, task)
