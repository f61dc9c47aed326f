"""How each kind of device is found: one detection handler a file. None imports a heavy library before it is used."""
