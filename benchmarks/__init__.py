"""Timings; each file is a command of its own."""
