"""The parts that all IPCPs share: life cycle, primitives, options, and the process of an IPCP (paper 4.3, 5.3)."""
