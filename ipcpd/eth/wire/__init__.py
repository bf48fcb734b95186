"""Frames and messages that the ethernet IPCPs send (spec/ethernet 5)."""
