"""Isolated Claude Code sessions in containers, driven through the docker or podman command line."""

__version__ = "0.1.0"
