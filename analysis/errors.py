"""The two ways in which the analysis fails to deliver: something the user can fix, and nothing to draw yet."""


class AnalysisError(Exception):
    """Something the user can fix. The message is one line: which folder or file, and what would be right."""


class NoData(Exception):
    """There is nothing to draw this figure from (yet). The message is one line that says why."""
