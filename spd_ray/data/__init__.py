"""Tasks and text: GLUE's, the user's own files, the synthetic miniature, tokenised examples and batches of like length.

May import config and base. Hands out `load_task` (with a fingerprint of the content), the metrics, `EncodedTask`, and
batches that are a pure function of (seed, epoch). Knows no model.
"""
