"""What each command does.

With `parastream.client.cli` this is where client, server and engine are put together; the rest of
`parastream.client` needs neither of the latter.
"""
