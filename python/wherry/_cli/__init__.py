"""The `wherry` command. `commands` has the list of them, for click; `serve_options` is a way to a
server that needs none of it.
"""
