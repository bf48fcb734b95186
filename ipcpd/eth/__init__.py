"""The ethernet IPCPs: layers on a link, in two framings (paper 5.4)."""
