"""Timings, and the paper's experiments; each file is a command of its own."""
