"""One file a step; `opening.REVISIONS` names them in order."""
