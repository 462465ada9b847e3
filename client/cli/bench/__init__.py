"""`parastream bench`: measure parastream on this machine."""
