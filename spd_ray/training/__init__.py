"""One trial's training on its ranks: Algorithm 1, the engine it runs on, its teacher, its students on disk.

May import model, data, records, config, equations and base; `engine` and `engine_state` alone import DeepSpeed. Hands
out `load_teacher`, `prepare` and `train_spd` (records, step by step), states to continue from, exported and verified
students, and the pretraining of small encoders.
"""
