"""One trial's training on its ranks: Algorithm 1, its teacher and what that answers, its students on disk and packed.

May import engine, model, kernels, data, records, config, equations and base. Hands out `load_teacher`, `prepare` and
`train_spd` (records, step by step), exported and verified students, and the pretraining of small encoders.
"""
