"""What the ethernet IPCPs put on the wire (spec/ethernet 5)."""
