"""Containers as pods of Kubernetes, driven by ``kubectl`` alone."""
