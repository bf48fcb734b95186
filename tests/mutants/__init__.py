"""Mutation tests of the pure machines, tables and codecs; `make mutants`, or `python -m tests.mutants --help`."""
