"""Ink that several figures share: colours and marks, lines over steps, scores by value, captions' common sentences.

May import `numbers` and the rooms below. Takes numbers and axes, computes nothing that a figure would report.
Hands out functions `draw...(numbers, axes)` and sentences for captions.
"""
