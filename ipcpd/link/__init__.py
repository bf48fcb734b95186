"""Link-level IPCPs: what the ethernet and UDP types have in common (paper 5.4, 5.5; spec/common 7)."""
