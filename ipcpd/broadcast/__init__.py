"""The broadcast IPCP: all other members receive each packet of a member (paper 2.13, 5.6.1)."""
