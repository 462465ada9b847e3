"""What goes over the wire: the messages of the native protocol, refusals, and why a message cannot be read."""
