"""Prompts, their results, questions for permission, and commands."""
