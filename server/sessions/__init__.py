"""One client's audio on its way through the engine, and who gets in."""
