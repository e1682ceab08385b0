"""Drives a container engine through its command line; knows nothing of Claude or MCP."""
