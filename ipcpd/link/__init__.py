"""Link-level IPCPs: the parts that the ethernet and UDP types share (paper 5.4, 5.5; spec/common 7)."""
