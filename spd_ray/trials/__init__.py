"""A trial as Ray runs it: from evaluation to evaluation, on one rank or several, safe to kill at any moment.

May import training and everything below. Hands out `TrialRunner` (one rank: student and records after each evaluation,
a state now and then), `SpdTrainable`, Tune's trainable, whose rank 0 starts the others, `run_on_worker` and
`make_on_workers` for what the driver has workers compute, and `footprint`, what a trial takes.
"""
