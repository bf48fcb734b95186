"""What the ethernet IPCPs put on the wire (wire-lower 1, 2)."""
