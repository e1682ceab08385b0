"""Starts and kills what runs in the session, and reads why the kernel killed it."""
