"""What a session may reach, and the proxy through which it does."""
