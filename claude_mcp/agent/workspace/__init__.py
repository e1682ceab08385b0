"""Checkpoints of the workspace, and what changed between them; nothing here writes to its .git."""
