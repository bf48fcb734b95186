"""Our daemons against a member that behaves as the C prototype does, written from the specification alone (docs/design/interop.md)."""
