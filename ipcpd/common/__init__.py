"""What every IPCP has in common: life cycle, primitives, options, and the process it runs in (paper 4.3, 5.3)."""
