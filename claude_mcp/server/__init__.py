"""Front end for MCP: schemas, tools, transports. The only room that imports ``mcp``."""
