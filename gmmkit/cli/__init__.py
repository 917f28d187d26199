"""The ``gmmkit`` command: one module for each of its commands."""
