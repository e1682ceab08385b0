"""Joins engine, agent and Claude Code: the product's rules live here."""
