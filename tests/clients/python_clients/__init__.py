"""Python clients behind one face, so that each scenario is written once and driven through every
client's own code.

`api.py` is the face. A client that has no call for something raises `Unsupported` with the reason.
"""
