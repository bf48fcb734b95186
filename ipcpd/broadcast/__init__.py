"""The broadcast IPCP: what one says, all others hear (paper 2.13, 5.6.1)."""
