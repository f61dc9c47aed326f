"""Words and laws: manifests, versions, the lifecycle, events, errors. Pure: no I/O, no clock, no asyncio."""
