"""Driver for MCP3008 converters and their kin."""
