"""What must last: wanted devices, switched-off drivers, installed plugins, the journal, who took the node down.

`quick` answers one-shot commands without SQLAlchemy; everything else is behind `opening.open_store`.
"""
