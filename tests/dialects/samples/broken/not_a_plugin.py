this is no Python, and nothing in it looks like a plugin
