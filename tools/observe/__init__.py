"""Ways to look into a system: the statistics tree, metrics, events (docs/howto/observe.md)."""
