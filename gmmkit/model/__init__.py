"""Model: what a mixture is. Structures of covariances, frozen parameters, and their uses.

Arrays in, arrays out: nothing here knows of data, files or training.
"""
