"""Creating a session: a request becomes a plan, and a plan a running container."""
