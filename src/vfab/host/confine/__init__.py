"""A host confines itself before any code of the plugin runs: files, calls, namespaces, limits; and tries them."""
