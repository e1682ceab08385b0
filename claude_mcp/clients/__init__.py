"""The configuration files of MCP clients: where they are, and our entry in them."""
