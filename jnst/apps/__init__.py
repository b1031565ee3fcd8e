"""Applications on top of the library: everything with files, terminals, sockets, signals and processes."""
