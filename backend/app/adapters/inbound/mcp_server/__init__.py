"""The workflow tools for MCP clients, over streamable HTTP and stdio."""
