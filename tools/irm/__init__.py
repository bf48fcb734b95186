"""The `irm` command: management of a system from the command line (paper 5.7; docs/reference/irm.md).

main.py   the command line as a whole: groups, help, --json, exit codes
words.py  the word grammar, and commands as data
ipcp.py bind.py name.py flow.py pool.py   one group of commands each: its table, and what its commands do
"""
