"""The ethernet IPCPs: eth-dix and eth-llc (paper 5.4)."""
