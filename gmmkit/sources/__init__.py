"""Sources: any data as blocks of rows, and how passes over them run.

A source has two verbs: `map_sum` adds up what a kernel makes of each block, `map_rows` joins it.
"""
