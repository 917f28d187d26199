"""Kernel: the E-step and the M-step. The formulas live here: arrays in, arrays out."""
