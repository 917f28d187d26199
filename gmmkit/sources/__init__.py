"""Sources: any data as blocks of rows, and how passes over them run.

A source has two verbs. `map_sum` adds up a kernel's results for the blocks, `map_rows` joins them.
"""
