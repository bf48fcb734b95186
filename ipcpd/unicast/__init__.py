"""The unicast IPCP: its components as protocol machines without I/O, and the process that runs them (paper 2.12, 5.3)."""
