"""Who serves a session's model, with which credentials, and at which address."""
