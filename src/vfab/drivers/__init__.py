"""Built-in plugins, one folder each, shaped exactly like somebody else's."""
