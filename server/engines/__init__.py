"""Several engines behind one front: each in a process of its own, at the other end of a Unix socket."""
