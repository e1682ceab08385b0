"""Who serves a session's model, and how Claude Code authenticates there."""
