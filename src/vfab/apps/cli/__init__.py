"""The command line: one file a noun. Nothing is decided here: the commands ask the rooms below and print."""
