"""What the analysis says when it cannot go on."""


class AnalysisError(Exception):
    """What a user can mend. The message is one line: which folder or file, and what would be right."""


class NoData(Exception):
    """There is nothing to draw this figure from (yet). The message is one line that says why."""
