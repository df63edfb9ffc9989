"""The DeepSpeed engine that takes a trial's steps, and a teacher's: what knows DeepSpeed is here, and nowhere else.

May import model, kernels, records, config, equations and base. Hands out `make_engine`, one step by `apply_part`, the
ranks and what is summed over them, the loss scale, the arithmetic of products, and an engine's state to go on from.
"""
