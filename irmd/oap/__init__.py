"""The allocation handshake between two IRMds (OAP): header, checks, extensions (spec/oap)."""
