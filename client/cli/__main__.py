"""`python -m parastream.client.cli`, which is the command `parastream`."""

from __future__ import annotations

from parastream.client.cli.main import main

main()
