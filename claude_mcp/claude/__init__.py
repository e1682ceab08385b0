"""Speaks Claude Code: what to send it, what it says, how to start it.

The rule: no I/O, and nothing but Python 3.9 and its standard library: it runs in any container too.
"""
