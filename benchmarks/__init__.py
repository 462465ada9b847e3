"""Programs that measure. Their process is their own: it is set up for computing before any of them imports MLX."""

from parastream.model import prepare_process

prepare_process()
