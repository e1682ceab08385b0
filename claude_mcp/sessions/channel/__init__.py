"""The held-open exec to a session's agent, and what travels over it."""
