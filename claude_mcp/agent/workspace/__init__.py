"""The workspace: how a clone or copy is made, its checkpoints, and what changed between them."""
