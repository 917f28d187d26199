"""Kernel: the E-step and the M-step. This is where the formulas live: arrays in, arrays out."""
