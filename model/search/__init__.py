"""From candidates to tokens: a beam search over a lattice, scored by a language model and hotwords over characters."""
