"""A deterministic, seeded simulator of whole unicast layers; `python -m tests.sim --help`."""
