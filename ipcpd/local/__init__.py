"""The local IPCP: a layer within one system (paper 5.6.2)."""
