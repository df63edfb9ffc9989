"""Ink that several figures share: colours and marks, lines over steps, scores by value, sentences of captions.

May import `numbers` and the rooms below. Takes numbers and axes, computes nothing that a figure would report.
Hands out `style.compose` (an empty picture, its axes drawn on), `draw...(numbers, axes)` and `captions`.
"""
