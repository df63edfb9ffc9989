"""Tasks and text: the GLUE tasks, the synthetic miniature, tokenised examples and batches of like length.

May import config and base. Hands out `load_task`, the metrics, `EncodedTask`, and batches that are a pure function of
(seed, epoch). Knows no model.
"""
