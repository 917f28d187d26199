"""The ``gmmkit`` command: a module a command."""
