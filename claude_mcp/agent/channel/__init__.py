"""Connections of front ends to the agent, and the threads that serve them."""
