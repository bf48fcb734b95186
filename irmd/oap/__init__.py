"""The allocation handshake between two IRMds (OAP): header, checks, extensions (wire-lower 5)."""
