"""Writes files without following links; used on both sides of the wall; Python 3.9."""
