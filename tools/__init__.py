"""The tools: irm, oping, oecho, ocbr, operf. Installed as the package `ouroboros_tools`."""
