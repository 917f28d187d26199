"""Model: what a mixture is. Structures of covariances, frozen parameters, what follows from them.

Arrays in, arrays out: nothing here knows data, files or training.
"""
