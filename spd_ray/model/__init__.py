"""The grafted model: teacher, student and f^G of Eq. (1) in one, and the objective of Eq. (2) on its outputs.

May import kernels, data (for batches' shares), config, equations and base. Hands out `graft`, `extract_student`,
pruning in place, recorded attention maps, cheap dropout, and the terms of a step's objective. Models are changed
here, by functions, before an engine wraps them.
"""
