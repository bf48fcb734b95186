"""The tools: irm, oping, oecho, ocbr, operf, ocap. Installed as the package `ouroboros_tools`."""
