"""Prompts on their way through Claude Code: queue, driver, live process, questions."""
