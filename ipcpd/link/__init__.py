"""Link-level IPCPs: what the ethernet and UDP types have in common (paper 5.4, 5.7; wire-lower 0.4)."""
