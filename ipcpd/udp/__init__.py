"""The UDP IPCPs: udp4 and udp6 (paper 5.5)."""
