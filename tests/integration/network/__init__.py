"""Restricted networks: what works is in `test_access`, the ways past them are in the other files.

Each way is tried from inside as the session's user. In each test something listens where the
attempt would arrive, and in each somebody who may come does, last: a listener takes its visitors in
their order, so whoever came before is known by then.

The sessions are of scope "package", and this is one, so that they end with the last test in it:
tests elsewhere count what runs.
"""
