"""Which trials there are: the Optuna study that draws them and the ledger that knows how each one stands.

May import data, records, config and base. Hands out `Draws` (a point is a function of the study's history alone)
and `Ledger` (trials by id, what is due next, which is best). Nothing here trains or runs Ray.
"""
