"""Values in running text: numbers, lists and counts; the names of methods, metrics, splits and tasks.

May import `reading`. Pure functions from values to strings, the same for captions, tables, messages and the page:
`formatting` knows numbers and lists, `names` what things are called.
"""
