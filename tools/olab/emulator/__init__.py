"""The link emulator of a lab: a process that stands in a link and passes frames on, or not, as it was told.

`impairment` is what it is told, in the words of tc-netem(8); `line` the pure machine that decides about frames, for tests
and simulators; `process` what runs in a link; `started` the side of who starts it. The C is in `src`.
"""
