"""``python -m claude_mcp`` is the program ``claude-mcp``."""

import sys

from claude_mcp.cli import main

if __name__ == "__main__":
    sys.exit(main())
