"""The paper's equations as pure functions: numbers or tensors in, numbers or tensors out, in the paper's symbols.

May import nothing of spd_ray. Hands out the schedules, Eqs. (5) and (6) and the pruning rates (`schedules`), the
projection of Eq. (3) (`masks`), other methods' scores of weights (`criteria`) and masks that grow again (`regrowth`),
and the terms of Eq. (4) and of other distillation methods (`losses`).
"""
