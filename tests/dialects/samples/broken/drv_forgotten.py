class Forgotten:
    """Derives from nothing."""
