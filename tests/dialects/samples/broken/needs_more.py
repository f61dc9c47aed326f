"""Needs a library that nobody has."""
import a_library_that_nobody_has


def is_needs_more_available():
    return a_library_that_nobody_has is not None


def get_needs_more_install_instructions():
    return "Ask the vendor for a_library_that_nobody_has"


def create_needs_more_manager(**kwargs):
    raise ImportError("never")
