"""Claude Code's protocol: its frames, its command line and its environment.

The rule: no I/O, and only the standard library of Python 3.9: it also runs in the container.
"""
