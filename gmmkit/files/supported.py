"""The versions of the files, the newest first. This module imports nothing."""

VERSIONS = ("1.2", "1.1", "1.0")
