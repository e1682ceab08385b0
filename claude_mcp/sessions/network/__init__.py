"""What a session may reach, and the proxy that enforces it."""
