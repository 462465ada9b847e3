"""The command line `parastream`."""
